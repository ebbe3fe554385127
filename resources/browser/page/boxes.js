/**
 * Places of elements, and their refs drawn on the page for a screenshot.
 *
 * Labels are drawn by the browser, which scales and clips them right, in a closed shadow root above everything else.
 * The page can notice that an element came and went, not what is in it; so it is there for the screenshot only.
 */

const MAX_BOXES = 500;
let overlay = null;

/** Boxes in CSS px of the viewport, of `given` refs or of the controls of the last outline. */
function boxesOf(given) {
  const boxes = [];
  for (const ref of (given ?? outlined).slice(0, MAX_BOXES)) {
    const element = refs.find(ref);
    const box = element && boxOf(element);
    if (!box || box.width === 0 || box.height === 0) continue;
    boxes.push({ ref, x: Math.round(box.x), y: Math.round(box.y), width: Math.round(box.width), height: Math.round(box.height) });
  }
  return { boxes, viewport: { width: innerWidth, height: innerHeight, scroll_x: Math.round(scrollX), scroll_y: Math.round(scrollY) } };
}

/** Draws labels, or takes them away; drawn again, they are at the elements' places of now. */
function drawRefs({ on, refs: given }) {
  overlay?.remove();
  overlay = null;
  if (!on) return { drawn: 0 };
  const { boxes } = boxesOf(given);
  overlay = createElement('div');
  overlay.style.cssText = 'all:initial;position:absolute;inset:0 auto auto 0;width:0;height:0;overflow:visible;z-index:2147483647;pointer-events:none;';
  const root = overlay.attachShadow({ mode: 'closed' });
  for (const { ref, x, y, width, height } of boxes) {
    const frame = createElement('div');
    const label = createElement('span');
    frame.style.cssText = `position:absolute;left:${x + scrollX}px;top:${y + scrollY}px;width:${width}px;height:${height}px;outline:1px solid #d00;`;
    label.style.cssText = 'position:absolute;left:0;top:0;font:bold 10px/1.2 sans-serif;color:#fff;background:#d00;padding:0 2px;';
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
