/**
 * The outline: what a person would find on the page, as a tree of parts that lines.js writes.
 *
 * What is not rendered or is hidden from assistive technology is left out; opacity and position are not judged, as
 * screen readers don't. An element is a control when its role says so, when it is editable, or when it turns the
 * pointer into a hand ("clickable"). A part is a text, a node {role, element, name, ref, parts}, or BREAK between
 * blocks. Elements without a role leave no trace but their content, so depth of markup is not depth of outline.
 */

const MEDIA = words('canvas video audio');
const CELLS = words('cell columnheader rowheader');
const SHOWN_EMPTY = words('canvas video audio cell columnheader rowheader');
const BREAK = Symbol('between blocks');
const MAX_DEPTH = 400;
/** CSS px; what is smaller on a side cannot be aimed at. */
const MIN_SEEN = 4;
const NEVER_SHOWN = words(
  'script style noscript template head title meta link base source track param datalist colgroup',
);

/**
 * @param {Element} root whose content is shown
 * @param {boolean} controlsOnly leave out texts and structure
 * @returns {{parts: Array, cuts: string[]}} with what was left out because of limits, in words
 */
function partsOf(root, controlsOnly) {
  const cuts = new Set();
  let left = MAX_ELEMENTS;

  /** `place`: reads texts here? inside of a control? under a hand already? how deep? */
  function walk(element, into, place) {
    if (left === 0) return;
    if (--left === 0) cuts.add(`only the first ${MAX_ELEMENTS} elements were read`);
    if (place.depth > MAX_DEPTH) {
      cuts.add(`what is nested deeper than ${MAX_DEPTH} elements was left out`);
      return;
    }
    const tag = tagOf(element);
    if (NEVER_SHOWN.has(tag) || attributeOf(element, 'aria-hidden') === 'true' || hasAttribute(element, 'inert'))
      return;
    const style = getComputedStyle(element);
    const display = style.display;
    if (display === 'none') return;
    const block = !display.startsWith('inline') && display !== 'contents';
    if (block) into.push(BREAK);
    if (tag === 'br') addText(into, '\n', place.reads);
    else show(element, into, { ...place, tag, style, hand: style.cursor === 'pointer', underHand: place.hand });
    if (block) into.push(BREAK);
  }

  function show(element, into, place) {
    if (place.tag === 'label' && element.control && !place.control) return showLabel(element, into, place);
    if (place.tag === 'input' && hasStandIn(element)) return undefined;
    if (place.tag === 'legend' || place.tag === 'caption')
      return walkChildren(element, into, { ...place, reads: false });
    const role = place.style.visibility === 'visible' ? shownRole(element, place) : null;
    if (!role) return walkChildren(element, into, place);
    const node = { role, element, name: nameOf(element, role), ref: null, parts: [] };
    if (role === 'clickable') return showClickable(node, into, place);
    if (CELLS.has(role) && isOperable(element, role, place)) {
      showClickable({ ...node, role: 'clickable', parts: [] }, node.parts, place);
      into.push(node);
      return undefined;
    }
    if (role === 'img' || role === 'iframe') {
      if (role === 'iframe') node.ref = refs.of(element);
      if (node.name || node.ref) into.push(node);
      return undefined;
    }
    if (CONTROLS.has(role)) {
      node.ref = refs.of(element);
      const isList = element instanceof HTMLSelectElement && element !== root;
      if (!isList) walkChildren(element, node.parts, { ...place, reads: false, control: true });
      into.push(node);
      return undefined;
    }
    if (PARTS.has(role) || MEDIA.has(role) || isOperable(element, role, place)) node.ref = refs.of(element);
    walkChildren(element, node.parts, place);
    if (role === 'group' && !node.name) into.push(...node.parts);
    else if (node.name || SHOWN_EMPTY.has(role) || node.parts.some((part) => part !== BREAK)) into.push(node);
    return undefined;
  }

  /** Inside of a control only other controls count. */
  function shownRole(element, place) {
    const role = roleOf(element);
    if (vaultNames.has(element) && !CONTROLS.has(role)) return 'textbox';
    if (role && (CONTROLS.has(role) || role === 'iframe')) return role;
    if (place.control) return null;
    const stays = PARTS.has(role) || role === 'row' || (CELLS.has(role) && !controlsOnly);
    if (!stays && isOperable(element, role, place)) return 'clickable';
    return controlsOnly ? null : role;
  }

  function walkChildren(element, into, place) {
    const { style } = place;
    if (style.contentVisibility === 'hidden') return;
    const closed = place.tag === 'details' && !hasAttribute(element, 'open');
    const reads = place.reads && !closed && style.visibility === 'visible';
    const inside = { reads: place.reads, control: place.control, hand: place.hand, depth: place.depth + 1 };
    const keepsLines = reads && style.whiteSpaceCollapse !== 'collapse';
    for (const child of childrenOf(element)) {
      const kind = nodeTypeOf(child);
      if (kind === TEXT && reads) addText(into, textOf(child), keepsLines);
      else if (kind === ELEMENT && (!closed || tagOf(child) === 'summary')) walk(child, into, inside);
    }
  }

  /** A label's text is its control's name. Where the control itself cannot be seen, its first label stands for it. */
  function showLabel(label, into, place) {
    const { control } = label;
    if (hasStandIn(control) && control.labels[0] === label) {
      const role = roleOf(control);
      into.push({ role, element: control, name: nameOf(control, role), ref: refs.of(label), parts: [] });
    }
    const namedOtherwise = hasAttribute(control, 'aria-label') || hasAttribute(control, 'aria-labelledby');
    walkChildren(label, into, { ...place, hand: true, reads: place.reads && namedOtherwise });
  }

  /** One line when it is only a little text; its content as it is when that is one control; else both. */
  function showClickable(node, into, place) {
    walkChildren(node.element, node.parts, place);
    const shown = node.parts.filter((part) => part !== BREAK);
    const controls = shown.filter((part) => part.ref);
    const text = contentOf(node.element);
    const isControl = controls.length === 1 && (shown.length === 1 || controls[0].name === text);
    if (isControl && !isDraggable(node.element)) {
      into.push(...node.parts);
      return;
    }
    node.ref = refs.of(node.element);
    if (!controls.length && text.length <= MAX_NAME) {
      node.name ||= text;
      node.parts = [];
    }
    into.push(node);
  }

  const parts = [];
  // A document may have no element at all: its first bytes have not come, or its page has emptied it.
  if (root) walk(root, parts, { reads: !controlsOnly, control: false, hand: false, depth: 0 });
  return { parts, cuts: [...cuts] };
}

/** Whether it is there to be clicked, dragged or moved to by keys although its role does not say so. */
function isOperable(element, role, { hand, underHand, style }) {
  if (element === pageBody() || element === pageRoot()) return false;
  if ((hand && !underHand) || hasAttribute(element, 'onclick') || isDraggable(element)) return true;
  // Keys also move to what only scrolls.
  const scrolls = /auto|scroll/.test(style.overflow);
  return !role && !scrolls && Number.parseInt(attributeOf(element, 'tabindex'), 10) >= 0;
}

/** Boxes and switches in a style of their own: the input is hidden or a pixel, and its label is drawn as the control. */
function hasStandIn(control) {
  if (!['checkbox', 'radio', 'file'].includes(control.type) || !control.labels?.length) return false;
  const { width, height } = boxOf(control);
  const seen = isRendered(control, { visibilityProperty: true }) && Math.min(width, height) >= MIN_SEEN;
  return !seen && isRendered(control.labels[0], { visibilityProperty: true });
}

/** Text joins the text before it. Blanks are squeezed, line ends too unless the page keeps them. */
function addText(into, text, keepsLines) {
  const before = typeof into.at(-1) === 'string' ? into.at(-1) : null;
  const even = keepsLines ? text : text.replace(/\s+/g, ' ');
  const clean = before?.endsWith('\n') && !keepsLines ? even.trimStart() : even;
  if (before !== null) into[into.length - 1] += clean;
  else if (clean.trim()) into.push(clean);
}
