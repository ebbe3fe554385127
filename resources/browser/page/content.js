/**
 * The document as HTML, with what fields hide left out (threat L03): frameworks mirror a field's value into attributes.
 *
 * The copy is made in a document without a window: nothing of it is loaded or run.
 */

const MAX_HTML = 2_000_000;
const MIN_SECRET = 4;

function pageContent({ max_characters = MAX_HTML }) {
  const root = pageRoot();
  const inert = getter(Document.prototype, 'implementation')(document).createHTMLDocument('');
  const copy = inert.importNode(root, true);
  const all = method(Element.prototype, 'querySelectorAll');
  const copies = [...all(copy, '*')];
  for (const [at, element] of [...all(root, '*')].entries()) {
    if (!(isTextControl(element) || vaultNames.has(element)) || !isSecret(element) || !isFilled(element)) continue;
    if (isTextControl(element)) Element.prototype.setAttribute.call(copies[at], 'value', secretMark(element));
    else copies[at].textContent = secretMark(element);
  }
  const type = getter(Document.prototype, 'doctype')(document);
  const html = masked((type ? `<!DOCTYPE ${type.name}>` : '') + getter(Element.prototype, 'outerHTML')(copy));
  return { html: html.slice(0, max_characters), characters: html.length };
}

function shownAttribute({ attribute }, element) {
  const value = attributeOf(element, attribute);
  const hides = value && attribute.toLowerCase() === 'value' && isSecret(element);
  return { value: hides ? secretMark(element) : masked(value) };
}

const escaped = (text) => text.replace(/&/g, '&amp;').replace(/\u00a0/g, '&nbsp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/** A text without the values of fields that hold a secret, wherever they are repeated in it. */
function masked(text) {
  if (text === null) return null;
  const values = new Set();
  for (const element of everyElement({ left: MAX_SEARCHED })) {
    if (!isTextControl(element) || !isSecret(element)) continue;
    for (const value of [element.value, attributeOf(element, 'value') ?? '', element.defaultValue]) {
      if (value.length < MIN_SECRET) continue;
      for (const form of [value, escaped(value), escaped(value).replace(/"/g, '&quot;')]) values.add(form);
    }
  }
  return [...values].sort((a, b) => b.length - a.length).reduce((clean, value) => clean.replaceAll(value, '[filled]'), text);
}
