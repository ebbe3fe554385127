/**
 * What is to be known of an element beside its role and name, as words: `checked disabled value="Ann"`.
 */

const MAX_VALUE = 120;
const MAX_OPTIONS = 10;
const MAX_URL = 80;

const ARIA_WORDS = {
  'aria-checked': { true: 'checked', mixed: 'mixed' },
  'aria-disabled': { true: 'disabled' },
  'aria-expanded': { true: 'expanded', false: 'collapsed' },
  'aria-selected': { true: 'selected' },
  'aria-pressed': { true: 'pressed', mixed: 'mixed' },
  'aria-required': { true: 'required' },
  'aria-readonly': { true: 'readonly' },
  'aria-invalid': { true: 'invalid', spelling: 'invalid', grammar: 'invalid' },
  'aria-busy': { true: 'busy' },
  'aria-modal': { true: 'modal' },
};

const NATIVE_WORDS = [
  [':checked:is(input)', 'checked'],
  [':indeterminate:is(input[type=checkbox])', 'mixed'],
  [':disabled', 'disabled'],
  [':required', 'required'],
  [':is(input,textarea)[readonly]', 'readonly'],
  [':user-invalid', 'invalid'],
  [':modal', 'modal'],
];

function statesOf(element, role, focused) {
  const states = new Set();
  for (const [selector, word] of NATIVE_WORDS) if (matches(element, selector)) states.add(word);
  for (const [attribute, known] of Object.entries(ARIA_WORDS)) {
    const word = known[attributeOf(element, attribute)];
    if (word) states.add(word);
  }
  if (role === 'summary') states.add(hasAttribute(parentOf(element), 'open') ? 'expanded' : 'collapsed');
  if (element instanceof HTMLOptionElement && element.selected) states.add('selected');
  if (hasAttribute(element, 'aria-current') && attributeOf(element, 'aria-current') !== 'false') states.add('current');
  if (element === focused) states.add('focused');
  const value = valueOf(element, role);
  if (value) states.add(value);
  return [...states];
}

function valueOf(element, role) {
  if (isSecret(element)) return secretMark(element);
  if (element instanceof HTMLSelectElement) return selectValue(element);
  if (element instanceof HTMLInputElement && element.type === 'file') {
    return shown('files', [...element.files].map((file) => file.name).join(', '));
  }
  if (isTextControl(element)) return typed(element) ? shown('value', element.value) : '';
  if (role === 'textbox' || role === 'searchbox' || role === 'combobox') return shown('value', contentOf(element));
  if (element instanceof HTMLProgressElement || element instanceof HTMLMeterElement) return shown('value', String(element.value));
  return shown('value', attributeOf(element, 'aria-valuetext') ?? attributeOf(element, 'aria-valuenow') ?? '');
}

const typed = (element) => !['button', 'submit', 'reset', 'image', 'checkbox', 'radio', 'hidden'].includes(element.type);
const shown = (label, value) => (value ? `${label}=${quoted(cut(value, MAX_VALUE))}` : '');

function selectValue(element) {
  const labels = (options) => options.slice(0, MAX_OPTIONS).map((option) => quoted(cut(squeezed(option.label), 40)));
  const options = [...element.options];
  const chosen = options.filter((option) => option.selected);
  const more = options.length > MAX_OPTIONS ? ` +${options.length - MAX_OPTIONS} more` : '';
  return `value=${labels(chosen).join(' ') || '""'} of ${labels(options).join(' ')}${more}`;
}

/** Where a link leads: short, from the site's root when it stays on the site. */
function urlOf(element, role) {
  if (role === 'iframe') return shortUrl(element.src);
  if (role !== 'link') return '';
  const given = attributeOf(element, 'href') ?? attributeOf(element, 'xlink:href');
  return given === null || given.startsWith('javascript:') ? '' : given.startsWith('#') ? cut(given, MAX_URL) : shortUrl(given);
}

function shortUrl(given) {
  const url = given && URL.parse(given, document.baseURI);
  if (!url) return '';
  const local = url.origin === location.origin && url.origin !== 'null';
  const text = local ? url.pathname + url.search + url.hash : url.href;
  return cut(text, MAX_URL);
}
