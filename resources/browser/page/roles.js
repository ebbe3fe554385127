/**
 * Roles: what an element is to somebody who uses the page. From its `role`, else from its tag, as HTML-AAM has it,
 * shortened to what helps to act and to read.
 */

const words = (text) => new Set(text.split(/\s+/).filter(Boolean));
const each = (names, value) => Object.fromEntries([...words(names)].map((name) => [name, value]));

/** Controls get a ref and are one line; their text is their name. */
const CONTROLS = words(`link button textbox searchbox checkbox radio switch combobox listbox spinbutton slider option
  menuitem menuitemcheckbox menuitemradio tab treeitem scrollbar summary file clickable`);

/** Parts of a page that are worth a ref, to look at that part alone. */
const PARTS = words(`navigation main banner contentinfo complementary search form region dialog alertdialog table grid
  treegrid tree tablist menu menubar toolbar iframe`);

/** Other roles that are shown; a role of no list here is transparent, and its content is shown. */
const STRUCTURE = words(`heading list listitem row cell columnheader rowheader group radiogroup article alert status log
  progressbar meter img canvas video audio tooltip`);

/** Not ARIA's: a page cannot claim them. */
const OURS = words('summary file clickable iframe canvas video audio');

const BY_TAG = {
  a: (element) => (hasAttribute(element, 'href') || hasAttribute(element, 'xlink:href') ? 'link' : null),
  area: (element) => (hasAttribute(element, 'href') ? 'link' : null),
  article: 'article',
  aside: 'complementary',
  audio: 'audio',
  button: 'button',
  canvas: 'canvas',
  dialog: 'dialog',
  fieldset: 'group',
  footer: (element) => (closest(element, 'article,aside,main,nav,section') ? null : 'contentinfo'),
  form: 'form',
  frame: 'iframe',
  ...each('h1 h2 h3 h4 h5 h6', 'heading'),
  header: (element) => (closest(element, 'article,aside,main,nav,section') ? null : 'banner'),
  iframe: 'iframe',
  img: 'img',
  input: (element) => BY_TYPE[element.type] ?? 'textbox',
  li: 'listitem',
  main: 'main',
  menu: 'list',
  meter: 'meter',
  nav: 'navigation',
  ol: 'list',
  optgroup: 'group',
  option: 'option',
  output: 'status',
  progress: 'progressbar',
  search: 'search',
  section: (element) =>
    hasAttribute(element, 'aria-label') || hasAttribute(element, 'aria-labelledby') ? 'region' : null,
  select: (element) => (element.multiple || element.size > 1 ? 'listbox' : 'combobox'),
  summary: (element) => (parentOf(element) instanceof HTMLDetailsElement ? 'summary' : null),
  svg: 'img',
  table: 'table',
  td: 'cell',
  textarea: 'textbox',
  th: 'columnheader',
  tr: 'row',
  ul: 'list',
  video: 'video',
};

const BY_TYPE = {
  ...each('button image reset submit color', 'button'),
  checkbox: 'checkbox',
  radio: 'radio',
  range: 'slider',
  number: 'spinbutton',
  search: 'searchbox',
  file: 'file',
};

const SAME = { gridcell: 'cell', directory: 'list', image: 'img' };

/** The role of an element, or null when only its content matters. */
function roleOf(element) {
  const given = attributeOf(element, 'role');
  for (const token of given ? words(given) : []) {
    if (token === 'none' || token === 'presentation') return null;
    const role = Object.hasOwn(SAME, token) ? SAME[token] : token;
    if (!OURS.has(role) && (CONTROLS.has(role) || PARTS.has(role) || STRUCTURE.has(role))) return role;
  }
  const tag = tagOf(element);
  const found = Object.hasOwn(BY_TAG, tag) ? BY_TAG[tag] : null;
  const role = typeof found === 'function' ? found(element) : found;
  if (role === null && isEditable(element) && !isEditable(flatParentOf(element))) return 'textbox';
  return role;
}
