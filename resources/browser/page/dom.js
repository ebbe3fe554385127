/**
 * Reading the document so that a page cannot answer by name.
 *
 * A form with <input name="children"> answers `form.children` with that input, in every JavaScript world; the document
 * does the same with names of images and forms. So whatever may be a form or the document is read through the getters
 * and methods of the prototypes, which in this world no page can replace.
 *
 * "Children" are those of the flat tree: an open shadow root stands for its host's children, a slot for what is put
 * into it. Closed shadow roots are not visible from here; their hosts look empty.
 */

const getter = (prototype, name) => {
  const { get } = Object.getOwnPropertyDescriptor(prototype, name);
  return (node) => get.call(node);
};
const method = (prototype, name) => {
  const own = prototype[name];
  return (node, ...given) => own.apply(node, given);
};

const nodeTypeOf = getter(Node.prototype, 'nodeType');
const textOf = getter(Node.prototype, 'nodeValue');
const firstChildOf = getter(Node.prototype, 'firstChild');
const nextSiblingOf = getter(Node.prototype, 'nextSibling');
const parentOf = getter(Node.prototype, 'parentNode');
const documentOf = getter(Node.prototype, 'ownerDocument');
const pageBase = getter(Node.prototype, 'baseURI');
const isConnected = getter(Node.prototype, 'isConnected');
const rootOf = method(Node.prototype, 'getRootNode');
const tagOf = getter(Element.prototype, 'localName');
const shadowOf = getter(Element.prototype, 'shadowRoot');
const slotOf = getter(Element.prototype, 'assignedSlot');
const attributeOf = method(Element.prototype, 'getAttribute');
const hasAttribute = method(Element.prototype, 'hasAttribute');
const attributesOf = method(Element.prototype, 'getAttributeNames');
const matches = method(Element.prototype, 'matches');
const closest = method(Element.prototype, 'closest');
const boxOf = method(Element.prototype, 'getBoundingClientRect');
const isRendered = method(Element.prototype, 'checkVisibility');
const scrollTo = method(Element.prototype, 'scrollIntoView');
const editable = getter(HTMLElement.prototype, 'isContentEditable');
const isEditable = (element) => element instanceof HTMLElement && editable(element);
const isDraggable = (element) => attributeOf(element, 'draggable') === 'true';
const createElement = (tag) => Document.prototype.createElement.call(document, tag);
const rootElement = getter(Document.prototype, 'documentElement');
const bodyElement = getter(Document.prototype, 'body');
const pageRoot = () => rootElement(document);
const pageBody = () => bodyElement(document) ?? pageRoot();

const ELEMENT = Node.ELEMENT_NODE;
const TEXT = Node.TEXT_NODE;

/** At most so many elements are looked at for one answer; the answer says when that was not all of them. */
const MAX_ELEMENTS = 60_000;
/** Fields are looked for among so many, which is fast; `complete` says if those were all. */
const MAX_SEARCHED = 1_000_000;

/** Child nodes in the flat tree. */
function childrenOf(element) {
  if (element instanceof HTMLSlotElement) {
    const assigned = element.assignedNodes();
    if (assigned.length) return assigned;
  }
  const children = [];
  for (let child = firstChildOf(shadowOf(element) ?? element); child; child = nextSiblingOf(child))
    children.push(child);
  return children;
}

/** The parent element in the flat tree, out of slots and shadow roots; null above the root. */
function flatParentOf(element) {
  const parent = slotOf(element) ?? parentOf(element);
  return parent instanceof ShadowRoot ? parent.host : parent instanceof Element ? parent : null;
}

/** Every element of the document and of its open shadow roots, a host before what is in it. */
function* everyElement(budget, root = document) {
  const scope = root === document ? Document.prototype : DocumentFragment.prototype;
  for (const element of scope.querySelectorAll.call(root, '*')) {
    if (budget.left-- <= 0) return;
    yield element;
    const shadow = shadowOf(element);
    if (shadow) yield* everyElement(budget, shadow);
  }
}

/** The element with the focus, inside of open shadow roots too. */
function focusedElement() {
  let focused = getter(Document.prototype, 'activeElement')(document);
  while (focused && shadowOf(focused)?.activeElement) focused = shadowOf(focused).activeElement;
  return focused === pageBody() ? null : focused;
}

/** What a click at a point of the viewport (CSS px) would meet, inside of open shadow roots too. */
function elementAt(x, y) {
  let found = Document.prototype.elementFromPoint.call(document, x, y);
  for (let shadow = found && shadowOf(found); shadow; shadow = shadowOf(found)) {
    const inner = shadow.elementFromPoint(x, y);
    if (!inner || inner === found) break;
    found = inner;
  }
  return found;
}

const squeezed = (text) => text.replace(/\s+/g, ' ').trim();
const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
