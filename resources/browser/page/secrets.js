/**
 * What a field must never show: anything typed as a password, now or earlier, and what was marked as a vault value.
 *
 * A page may turn a password field into a text field ("show password"); one that was seen as a password stays one.
 */

const vaultNames = new WeakMap();
const onceHidden = new WeakSet();

const isTextControl = (element) => element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement;

/** Whether the value of this element is secret. */
function isSecret(element) {
  if (vaultNames.has(element) || onceHidden.has(element)) return true;
  if (!isTextControl(element)) return false;
  const hidden =
    element.type === 'password' ||
    /\b(current|new)-password\b/.test(attributeOf(element, 'autocomplete') ?? '') ||
    !['', 'none'].includes(getComputedStyle(element).webkitTextSecurity ?? '');
  if (hidden) onceHidden.add(element);
  return hidden;
}

/** Whether anything is in it, in the field itself or in its `value` attribute. */
function isFilled(element) {
  if (!isTextControl(element)) return contentOf(element, { hidden: true, secrets: true }) !== '';
  return element.value !== '' || Boolean(attributeOf(element, 'value')) || element.defaultValue !== '';
}

/** What stands for a secret value in every answer. */
function secretMark(element) {
  if (!isFilled(element)) return '[empty]';
  return vaultNames.has(element) ? `[vault:${vaultNames.get(element)}]` : '[filled]';
}

/** What a picture must not show, whatever its type is now. */
function secretFields() {
  const all = [...everyElement({ left: MAX_SEARCHED })];
  return all.filter((element) => (isTextControl(element) || vaultNames.has(element)) && isSecret(element));
}

/** Every field that holds a secret now. Hidden ones too: a value does not go away because its field does. */
function holding() {
  const found = [];
  const budget = { left: MAX_SEARCHED };
  for (const element of everyElement(budget)) {
    if ((isTextControl(element) || vaultNames.has(element)) && isSecret(element) && isFilled(element)) {
      found.push({ ref: refs.of(element), name: vaultNames.get(element) ?? null });
    }
  }
  return { holding: found, complete: budget.left >= 0 };
}
