/**
 * Fields of a login: candidates with a guess of what each is for, the facts of each, and the forms' buttons.
 *
 * Guesses follow, in this order: `autocomplete`, the type, words in name, id, label and placeholder, the place before
 * a password. Textareas, selects and editable elements are no candidates: no login has its password there.
 */

const TYPES = words('text email tel password number url');
const OTP =
  /otp|totp|2fa|mfa|two.?factor|one.?time|verif|authenticat|passcode|security.?code|\bcode\b|\bpin\b|\btoken\b/;
const OTHER_CODE = /post|zip|promo|coupon|discount|gift|country|area.?code|invit|referral|voucher|captcha/;
const USER = /user|log.?in|e.?mail|account|identif|phone|mobile|member|customer|benutzer|usuario|utilisateur/;
const NEW = /new|confirm|repeat|retype|again|register|sign.?up|neu|wiederhol/;
const SUBMIT = /sign.?in|log.?(in|on)|continue|next|submit|verify|confirm|anmelden|weiter|entrar|connexion/;
/** So many are told of, those of a login before all others. */
const MAX_FIELDS = 60;
/** For so many it is guessed what they are for, which reads their labels. */
const MAX_GUESSED = 2_000;
const MAX_SUBMITS = 20;

/**
 * `complete` is false when limits left fields out that may be of a login: then nobody can tell that a field is the only
 * one of its kind. `disabled`: fields that a page shows and takes nothing in, now.
 */
function loginFields() {
  const inputs = [];
  const disabled = [];
  const buttons = [];
  const budget = { left: MAX_SEARCHED };
  for (const element of everyElement(budget)) {
    const fits = element instanceof HTMLInputElement && TYPES.has(element.type);
    if ((fits || isButton(element)) && isRendered(element, { visibilityProperty: true })) {
      (!fits ? buttons : matches(element, ':disabled') ? disabled : inputs).push(element);
    }
  }
  const groups = grouped(inputs);
  const fields = foremost(groups);
  const closed = foremost(disabled.map((input) => [input]));
  return {
    url: location.href,
    secure: isSecureContext,
    fields: fields.told.map(fieldOf),
    disabled: closed.told.map(fieldOf),
    submits: submitsOf(buttons, new Set(inputs.map((input) => input.form))),
    complete: budget.left >= 0 && fields.all && closed.all,
  };
}

/** Those that there is room for, with what each is for, in their order; `all`: none of a login is left out. */
function foremost(groups) {
  const found = groups.slice(0, MAX_GUESSED).map((boxes) => ({
    boxes,
    form: boxes[0].form,
    kind: boxes.length > 1 ? 'totp' : kindOfField(boxes[0]),
  }));
  guessByPlace(found);
  const wanted = found.filter((field) => field.kind !== 'other');
  const others = found.filter((field) => field.kind === 'other');
  const kept = new Set([...wanted, ...others].slice(0, MAX_FIELDS));
  return {
    told: found.filter((field) => kept.has(field)),
    all: groups.length <= MAX_GUESSED && wanted.length <= MAX_FIELDS,
  };
}

/** One field: an input, or the boxes of a code, then with the facts of the first box. */
function fieldOf({ boxes, kind }) {
  const [input, ...more] = boxes;
  return {
    ...factsOf(input),
    kind,
    boxes: more.length ? boxes.map((box) => refs.of(box)) : null,
    name: attributeOf(input, 'name'),
    label: nameOf(input, 'textbox'),
    autocomplete: attributeOf(input, 'autocomplete'),
    max_length: input.maxLength > 0 ? input.maxLength : null,
  };
}

function kindOfField(input) {
  const tokens = words((attributeOf(input, 'autocomplete') ?? '').toLowerCase());
  const hint = hintOf(input);
  isSecret(input);
  if (tokens.has('one-time-code')) return 'totp';
  if (tokens.has('new-password')) return 'new_password';
  if (tokens.has('current-password')) return 'password';
  if (tokens.has('username') || tokens.has('email')) return 'username';
  const digits =
    /numeric|decimal/.test(input.inputMode) || input.type === 'number' || /^(\\d|\[0-9\])/.test(input.pattern);
  const code = OTP.test(hint) && !OTHER_CODE.test(hint) && (input.maxLength < 0 || input.maxLength >= 4);
  if (input.type === 'password') return code && digits ? 'totp' : NEW.test(hint) ? 'new_password' : 'password';
  if (code && input.type !== 'email') return 'totp';
  if (input.type === 'email' || USER.test(hint)) return 'username';
  return 'other';
}

/** Words that tell what a field is for, in lower case, camelCase and snake_case taken apart. */
function hintOf(element) {
  const given = ['name', 'id', 'placeholder', 'data-testid'].map((name) => attributeOf(element, name) ?? '');
  return [...given, nameOf(element, 'textbox')]
    .join(' ')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .replace(/[_-]+/g, ' ')
    .toLowerCase();
}

/** Fields in order; four to ten boxes in a row for one character each are one field. */
function grouped(inputs) {
  const groups = [];
  for (const input of inputs) {
    const last = groups.at(-1);
    if (last && isCodeBox(input) && isCodeBox(last[0]) && last[0].form === input.form && last.length < 10)
      last.push(input);
    else groups.push([input]);
  }
  return groups.flatMap((group) => (group.length >= 4 ? [group] : group.map((input) => [input])));
}

const isCodeBox = (input) =>
  input.maxLength === 1 || (input.maxLength < 0 && (input.size === 1 || /^(\\d|\[0-9\])(\{1\})?$/.test(input.pattern)));

/** Without a user name so far, the last other field before a form's password is taken for it. */
function guessByPlace(fields) {
  for (const [at, password] of fields.entries()) {
    if (password.kind !== 'password') continue;
    const before = fields.slice(0, at).filter((field) => field.form === password.form);
    const last = before.at(-1);
    if (last && before.every((field) => field.kind === 'other')) last.kind = 'username';
  }
}

/** What may send the fields off: the forms' own buttons first, then buttons that only say so. */
function submitsOf(buttons, forms) {
  const found = [];
  for (const button of buttons) {
    if (!forms.has(button.form ?? null)) continue;
    const { form, action } = formFacts(button);
    const name = nameOf(button, 'button');
    const native = form !== null && /^(submit|image)$/.test(button.type);
    if (!native && !SUBMIT.test(name.toLowerCase())) continue;
    const leads = native && hasAttribute(button, 'formaction') ? button.formAction : action;
    found.push({ ref: refs.of(button), name, form, native, action: leads });
  }
  return found.sort((one, other) => other.native - one.native).slice(0, MAX_SUBMITS);
}

const isButton = (element) =>
  element instanceof HTMLButtonElement ||
  (element instanceof HTMLInputElement && /^(submit|image|button)$/.test(element.type)) ||
  attributeOf(element, 'role') === 'button';
