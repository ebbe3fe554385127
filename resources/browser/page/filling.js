/**
 * Putting a secret into a field: looked at and set in one turn of the page's own event loop, so that nothing of the
 * page runs in between but what the focus sets off, and after that everything is looked at again.
 *
 * The daemon calls this over the DevTools protocol with the value as an argument: it is in no selector and no script.
 * It hangs on the global object of this world, which no page script can reach. Answers never hold a value.
 */

const SMALLEST_PX = 8;
const FAINTEST = 0.1;
const valueOfInput = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value');
const focusOn = method(HTMLElement.prototype, 'focus');
const dispatch = method(EventTarget.prototype, 'dispatchEvent');

/** The first reason against filling this element, or null. `wanted`: { kind, origin, type, form, action }. */
function against(element, wanted) {
  if (!element) return 'it is gone';
  if (self.origin !== wanted.origin) return 'the page is at another origin';
  if (!(element instanceof HTMLInputElement)) return 'it is no input field';
  const facts = factsOf(element);
  if (facts.type !== wanted.type) return 'its type has changed';
  if (wanted.kind === 'password' ? facts.type !== 'password' : !TYPES.has(facts.type)) return 'it is no field for this';
  if (facts.form !== wanted.form || facts.action !== wanted.action) return 'its form has changed';
  if (!facts.visible || facts.opacity < FAINTEST) return 'it is not visible';
  if (facts.width < SMALLEST_PX || facts.height < SMALLEST_PX) return 'it is too small to be seen';
  if (!facts.in_viewport) return 'it is out of sight';
  if (!facts.topmost) return 'something else covers it';
  if (!facts.editable) return 'it cannot be edited';
  return null;
}

function assign(element, text) {
  valueOfInput.set.call(element, text);
  dispatch(element, new InputEvent('input', { bubbles: true, composed: true, inputType: 'insertText' }));
  dispatch(element, new Event('change', { bubbles: true }));
}

/** `refs`: the field, or the boxes of a code, which get a character each. */
function setSecret(wanted, value) {
  const elements = wanted.refs.map((ref) => refs.find(ref));
  const before = elements.map((element) => against(element, wanted)).find(Boolean);
  if (before) return { refused: before };
  const parts = elements.length > 1 ? [...value] : [value];
  if (parts.length > elements.length) return { refused: 'the code does not fit its boxes' };
  for (const [at, part] of parts.entries()) {
    const element = elements[at];
    focusOn(element);
    const now = against(element, wanted);
    if (now) return { [at ? 'changed' : 'refused']: now };
    if (wanted.name) vaultNames.set(element, wanted.name);
    assign(element, part);
    // A page that takes the last character of a code may send it off at once and show something else.
    const after = wanted.kind === 'totp' ? null : moved(element, wanted);
    if (after) {
      elements.forEach((one) => valueOfInput.set.call(one, ''));
      return { changed: after };
    }
  }
  return { set: true };
}

/** What is other than before a value went in: it may be shown now, or go elsewhere (threat B13). */
function moved(element, wanted) {
  if (!isConnected(element)) return 'it was taken out of the page';
  if (element.type !== wanted.type) return 'its type has changed';
  const { form, action } = formFacts(element);
  return form !== wanted.form || action !== wanted.action ? 'its form has changed' : null;
}

/**
 * Where in this document a secret is: in a field, in text or the title, in the address. `plain`: those of `values` that
 * are looked for outside of fields too; a short one would be found in ordinary words.
 */
function placesOf(values, plain) {
  const found = new Set();
  const holds = (text, wanted) => Boolean(text) && wanted.some((value) => text.includes(value));
  const budget = { left: MAX_SEARCHED };
  for (const element of everyElement(budget)) {
    if (isTextControl(element) && (holds(element.value, values) || holds(attributeOf(element, 'value'), values))) found.add('field');
  }
  for (const root of rootsOf()) if (holds(textContentOf(root), plain)) found.add('text');
  // What was not looked at may hold it.
  if (budget.left < 0) found.add('unknown');
  if (holds(pageTitle(document), plain)) found.add('text');
  if (holds(location.href, plain) || holds(decoded(location.href), plain)) found.add('address');
  return [...found];
}

function decoded(address) {
  try {
    return decodeURIComponent(address.replaceAll('+', ' '));
  } catch {
    return address;
  }
}

const textContentOf = getter(Node.prototype, 'textContent');

function* rootsOf() {
  yield pageRoot();
  for (const element of everyElement({ left: MAX_SEARCHED })) {
    const shadow = shadowOf(element);
    if (shadow) yield shadow;
  }
}

/** Empties every field that holds one of `values`, as a person would, and says where one still is. */
function clearSecrets(values, plain) {
  for (const element of everyElement({ left: MAX_SEARCHED })) {
    if (!(element instanceof HTMLInputElement) && !(element instanceof HTMLTextAreaElement)) continue;
    if (!values.some((value) => element.value.includes(value) || attributeOf(element, 'value')?.includes(value))) continue;
    if (element instanceof HTMLInputElement) assign(element, '');
    else element.value = '';
    Element.prototype.removeAttribute.call(element, 'value');
  }
  return placesOf(values, plain);
}

/** What was posted to get this document is not posted again: loading it anew becomes a GET. */
function forgetPost() {
  try {
    History.prototype.replaceState.call(history, history.state, '');
  } catch {
    // A document that has no history of its own was not posted for either.
  }
}

globalThis.spacesFilling = Object.freeze({ document: DOCUMENT, set: setSecret, places: placesOf, clear: clearSecrets, forget: forgetPost });
