/**
 * Accessible names, good enough: aria-labelledby, aria-label, the element's own labels, its content, title and
 * placeholder, in this order (https://www.w3.org/TR/accname-1.2/, without generated content of style sheets).
 */

const MAX_NAME = 160;
/** So many elements, labels and raw characters are looked at for one name. */
const MAX_NAME_ELEMENTS = 1_000;
const MAX_LABELS = 10;
const MAX_RAW = 1_000;

const NAMED_BY_CONTENT = words(`link button option menuitem menuitemcheckbox menuitemradio tab treeitem summary tooltip
  checkbox radio switch`);

const UNREAD = words(`script style noscript template head title meta link base source track param datalist colgroup
  input textarea select`);

/**
 * Text of an element, at most about `length` characters; what is typed into fields is not part of it, and secrets are
 * only on request. `hidden`: also what is not rendered, as labels may be; `groups`: also groups and menus in it.
 */
function contentOf(element, { length = 2 * MAX_NAME, hidden = false, secrets = false, groups = true } = {}) {
  let text = '';
  let left = MAX_NAME_ELEMENTS;
  const read = (node, depth) => {
    if (text.length > length || depth > 100 || left-- <= 0) return;
    if (nodeTypeOf(node) === TEXT) text += textOf(node).slice(0, length);
    if (nodeTypeOf(node) !== ELEMENT || UNREAD.has(tagOf(node))) return;
    if (vaultNames.has(node) && !secrets) return;
    if (!groups && /^(group|menu|tree)$/.test(attributeOf(node, 'role'))) return;
    const style = getComputedStyle(node);
    if (!hidden && (style.display === 'none' || attributeOf(node, 'aria-hidden') === 'true')) return;
    const block = !style.display.startsWith('inline') && style.display !== 'contents';
    const named = node !== element && (attributeOf(node, 'aria-label') ?? attributeOf(node, 'alt') ?? svgTitle(node));
    if (block || tagOf(node) === 'br') text += ' ';
    if (named) text += ` ${named.slice(0, length)} `;
    else if (hidden || style.visibility === 'visible') for (const child of childrenOf(node)) read(child, depth + 1);
    else for (const child of childrenOf(node)) if (nodeTypeOf(child) === ELEMENT) read(child, depth + 1);
    if (block) text += ' ';
  };
  read(element, 0);
  return squeezed(text);
}

/** The name of an element in its role, at most MAX_NAME characters; '' when it has none. */
function nameOf(element, role) {
  const name = fromAria(element) || fromMarkup(element) || fromContent(element, role) || fromHints(element);
  return cut(squeezed(name.slice(0, MAX_RAW)), MAX_NAME);
}

function fromAria(element) {
  const ids = attributeOf(element, 'aria-labelledby');
  const labels = ids
    ? [...words(ids)]
        .slice(0, MAX_LABELS)
        .map((id) => elementById(rootOf(element), id))
        .filter(Boolean)
    : [];
  const named = labels.map((label) => attributeOf(label, 'aria-label') || contentOf(label, { hidden: true }));
  return named.join(' ') || attributeOf(element, 'aria-label')?.trim();
}

function elementById(root, id) {
  const scope = root === document ? Document.prototype : DocumentFragment.prototype;
  return root === document || root instanceof ShadowRoot ? scope.getElementById.call(root, id) : null;
}

function fromMarkup(element) {
  switch (tagOf(element)) {
    case 'img':
    case 'area':
      return attributeOf(element, 'alt');
    case 'svg':
      return svgTitle(element);
    case 'fieldset':
      return childText(element, 'legend');
    case 'table':
      return childText(element, 'caption');
    case 'optgroup':
      return attributeOf(element, 'label');
    case 'iframe':
    case 'frame':
      return attributeOf(element, 'title') || attributeOf(element, 'name');
    default:
      return fromLabels(element) || fromButton(element);
  }
}

function fromLabels(element) {
  const labels = element instanceof HTMLFormElement ? [] : [...(element.labels ?? [])].slice(0, MAX_LABELS);
  return labels.map((label) => contentOf(label)).join(' ');
}

function fromButton(element) {
  if (!(element instanceof HTMLInputElement) || isSecret(element)) return '';
  if (element.type === 'image') return attributeOf(element, 'alt') || 'Submit';
  if (!['button', 'submit', 'reset'].includes(element.type)) return '';
  return element.value || { submit: 'Submit', reset: 'Reset' }[element.type];
}

const fromContent = (element, role) =>
  NAMED_BY_CONTENT.has(role) && !isSecret(element)
    ? contentOf(element, { groups: !/^(tree|menu)item/.test(role) })
    : '';

const fromHints = (element) =>
  attributeOf(element, 'title') ||
  attributeOf(element, 'placeholder') ||
  attributeOf(element, 'aria-placeholder') ||
  '';

function childText(element, tag) {
  const child = childrenOf(element).find((node) => nodeTypeOf(node) === ELEMENT && tagOf(node) === tag);
  return child ? contentOf(child) : '';
}

function svgTitle(element) {
  if (tagOf(element) !== 'svg') return undefined;
  return childrenOf(element).find((node) => nodeTypeOf(node) === ELEMENT && tagOf(node) === 'title')?.textContent;
}
