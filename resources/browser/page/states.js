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
  'aria-current': {
    true: 'current',
    page: 'current',
    step: 'current',
    location: 'current',
    date: 'current',
    time: 'current',
  },
};

const NATIVE_WORDS = {
  'input:checked': 'checked',
  'option:checked': 'selected',
  'input[type=checkbox]:indeterminate': 'mixed',
  ':disabled': 'disabled',
  ':required': 'required',
  ':is(input,textarea)[readonly]': 'readonly',
  ':user-invalid': 'invalid',
  ':is(select,input[type=file])[multiple]': 'multiple',
  'dialog:modal': 'modal',
};

const STATEFUL = words('input textarea select option optgroup button fieldset dialog');

function statesOf(element, role, focused) {
  const states = new Set();
  if (STATEFUL.has(tagOf(element))) {
    for (const [selector, word] of Object.entries(NATIVE_WORDS)) if (matches(element, selector)) states.add(word);
  }
  for (const attribute of attributesOf(element)) {
    const word = Object.hasOwn(ARIA_WORDS, attribute) && ARIA_WORDS[attribute][attributeOf(element, attribute)];
    if (word) states.add(word);
  }
  const reason = states.has('invalid') ? reasonOf(element) : '';
  if (reason && states.delete('invalid')) states.add(reason);
  if (role === 'summary') states.add(hasAttribute(parentOf(element), 'open') ? 'expanded' : 'collapsed');
  if (isDraggable(element)) states.add('draggable');
  if (element === focused) states.add('focused');
  const value = valueOf(element, role);
  if (value) states.add(value);
  return [...states];
}

/** What the browser tells people who send such a field off; of a secret it would say how long it is. */
function reasonOf(element) {
  if (!isTextControl(element) && !(element instanceof HTMLSelectElement)) return '';
  return isSecret(element) ? '' : shown('invalid', squeezed(element.validationMessage));
}

function valueOf(element, role) {
  if (isSecret(element)) return secretMark(element);
  if (element instanceof HTMLSelectElement) return selectValue(element);
  if (element instanceof HTMLInputElement && element.type === 'file') {
    return shown('files', [...element.files].map((file) => file.name).join(', '));
  }
  if (isTextControl(element)) return typed(element) ? shown('value', element.value) : '';
  if (role === 'textbox' || role === 'searchbox' || role === 'combobox') return shown('value', contentOf(element));
  if (element instanceof HTMLProgressElement || element instanceof HTMLMeterElement)
    return shown('value', String(element.value));
  return shown('value', attributeOf(element, 'aria-valuetext') ?? attributeOf(element, 'aria-valuenow') ?? '');
}

const typed = (element) =>
  !['button', 'submit', 'reset', 'image', 'checkbox', 'radio', 'hidden'].includes(element.type);
const shown = (label, value) => (value ? `${label}=${quoted(cut(value, MAX_VALUE))}` : '');

function selectValue(element) {
  const labels = (options) => options.slice(0, MAX_OPTIONS).map((option) => quoted(cut(squeezed(option.label), 40)));
  const options = [...element.options];
  const chosen = options.filter((option) => option.selected);
  const more = options.length > MAX_OPTIONS ? ` +${options.length - MAX_OPTIONS} more` : '';
  return `value=${labels(chosen).join(' ') || '""'} of ${labels(options).join(' ')}${more}`;
}

/** Where a link or a frame leads: short, from the site's root when it stays on the site. */
function urlOf(element, role) {
  if (role !== 'link' && role !== 'iframe') return '';
  const given = attributeOf(element, role === 'link' ? 'href' : 'src') ?? attributeOf(element, 'xlink:href');
  if (!given || /^\s*javascript:/i.test(given)) return '';
  const resolved =
    element instanceof SVGElement
      ? (URL.parse(given, pageBase(document))?.href ?? '')
      : (element.href ?? element.src ?? given);
  const here = location.href.split('#')[0];
  if (resolved.startsWith(`${here}#`)) return shortened(resolved.slice(here.length));
  const local = resolved.startsWith(`${location.origin}/`);
  return shortened(local ? resolved.slice(location.origin.length) : resolved);
}

/** Blanks and quotes, which only what is not a URL has, would end the place of the URL in its line. */
const shortened = (url) => cut(url.slice(0, 2 * MAX_URL).replace(/[\s"]/g, encodeURIComponent), MAX_URL);
