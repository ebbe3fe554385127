/**
 * Facts of a field, for whoever decides if a secret may go into it. Nothing is decided here.
 *
 * A page can hide a field from people and not from programs: too small, transparent, off-screen, below something else.
 * What is on top is asked of the browser at the field's centre, so a cover that lets clicks through
 * (`pointer-events: none`) is not noticed. A field out of sight is scrolled into view to ask, and the page back.
 */

/** Everything that must still hold when the value goes in. Sizes and places in CSS px of the viewport. */
function factsOf(element) {
  const before = [scrollX, scrollY];
  if (!inViewport(boxOf(element))) scrollTo(element, { block: 'center', inline: 'center', behavior: 'instant' });
  const box = boxOf(element);
  const middle = elementAt(box.x + box.width / 2, box.y + box.height / 2);
  const facts = {
    ref: refs.of(element),
    tag: tagOf(element),
    type: isForm(element) ? null : (element.type ?? null),
    ...formFacts(element),
    visible: isRendered(element, { visibilityProperty: true }),
    opacity: opacityOf(element),
    width: Math.round(box.width),
    height: Math.round(box.height),
    in_viewport: inViewport(box),
    topmost: isWithin(middle, element),
    editable: isTextControl(element) ? !matches(element, ':disabled') && !element.readOnly : isEditable(element),
    focused: element === focusedElement(),
    filled: isFilled(element),
  };
  scroll({ left: before[0], top: before[1], behavior: 'instant' });
  return facts;
}

const isForm = (element) => element instanceof HTMLFormElement;
const actionOf = getter(HTMLFormElement.prototype, 'action');
const methodOf = getter(HTMLFormElement.prototype, 'method');

/** Where the form of a field goes: `action` resolved, as the form has it; `formaction` of buttons is told with them. */
function formFacts(element) {
  const form = isForm(element) ? null : element.form;
  if (!isForm(form)) return { form: null, action: null, method: null };
  return {
    form: refs.of(form),
    action: actionOf(form),
    method: methodOf(form),
  };
}

function inViewport(box) {
  const x = box.x + box.width / 2;
  const y = box.y + box.height / 2;
  return x >= 0 && y >= 0 && x < innerWidth && y < innerHeight;
}

/** Of the element and all around it, multiplied; 0 is invisible, 1 opaque. */
function opacityOf(element) {
  let opacity = 1;
  for (let at = element; at; at = flatParentOf(at)) opacity *= Number(getComputedStyle(at).opacity);
  return Math.round(opacity * 100) / 100;
}

function isWithin(inner, element) {
  for (let at = inner; at; at = flatParentOf(at)) if (at === element) return true;
  return false;
}

/** The facts of one field again, and which of the `expected` ones are others now. */
function checkField({ ref, expected = {} }) {
  const element = refs.find(ref);
  if (!element) return { connected: false, changed: ['connected'] };
  if (isTextControl(element)) isSecret(element);
  const facts = { connected: true, ...factsOf(element) };
  return { ...facts, changed: Object.keys(expected).filter((name) => expected[name] !== facts[name]) };
}

/** Whether it is still here, and a click at its middle would reach it now, without waiting for anything. */
function clickable({ ref }) {
  const element = refs.find(ref);
  if (!element) return { here: false, ready: false };
  const box = boxOf(element);
  const middle = elementAt(box.x + box.width / 2, box.y + box.height / 2);
  const reached = isWithin(middle, element);
  const ready = reached && inViewport(box) && isRendered(element, { visibilityProperty: true }) && !isDisabled(element) && !isMoving(element);
  return { here: true, ready, fetches: Boolean(closest(element, 'a[download]')) };
}

const isDisabled = (element) => matches(element, ':disabled') || attributeOf(element, 'aria-disabled') === 'true';

/** Whether an animation moves it, or something around it, at this moment. */
function isMoving(element) {
  for (let at = element; at; at = flatParentOf(at)) {
    if (at instanceof Element && at.getAnimations().some((one) => one.playState === 'running')) return true;
  }
  return false;
}
