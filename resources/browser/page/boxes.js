/**
 * Places of elements, and their refs drawn on the page for a screenshot.
 *
 * Labels are drawn by the browser, which scales and clips them right, in a closed shadow root above everything else.
 * The page can notice that an element came and went, not what is in it; so it is there for the screenshot only.
 */

const MAX_BOXES = 500;
const ABOVE_ALL = 'all: initial; position: absolute; left: 0; top: 0; z-index: 2147483647; pointer-events: none';
const FRAME = 'position: absolute; outline: 1px solid #d00';
const LABEL = 'position: absolute; padding: 0 2px; font: bold 10px/1.2 sans-serif; color: #fff; background: #d00';
let overlay = null;

/** Boxes in CSS px of the viewport, of `given` refs or of the controls of the last outline. */
function boxesOf(given) {
  const boxes = [];
  for (const ref of (given ?? outlined).slice(0, MAX_BOXES)) {
    const element = refs.find(ref);
    const box = element && boxOf(element);
    if (!box || box.width === 0 || box.height === 0) continue;
    const [x, y, width, height] = [box.x, box.y, box.width, box.height].map(Math.round);
    boxes.push({ ref, x, y, width, height });
  }
  const [scroll_x, scroll_y] = [scrollX, scrollY].map(Math.round);
  return { boxes, viewport: { width: innerWidth, height: innerHeight, scroll_x, scroll_y } };
}

/** Draws labels, or takes them away; drawn again, they are at the elements' places of now. */
function drawRefs({ on, refs: given }) {
  overlay?.remove();
  overlay = null;
  if (!on) return { drawn: 0 };
  const { boxes } = boxesOf(given);
  overlay = createElement('div');
  overlay.style.cssText = ABOVE_ALL;
  const root = overlay.attachShadow({ mode: 'closed' });
  for (const { ref, x, y, width, height } of boxes) {
    const frame = createElement('div');
    frame.style.cssText = FRAME;
    Object.assign(frame.style, {
      left: `${x + scrollX}px`,
      top: `${y + scrollY}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
    const label = createElement('span');
    label.style.cssText = LABEL;
    label.textContent = ref;
    frame.append(label);
    root.append(frame);
  }
  Node.prototype.appendChild.call(pageRoot(), overlay);
  if (overlay.showPopover) {
    overlay.popover = 'manual';
    overlay.showPopover();
  }
  return { drawn: boxes.length };
}
