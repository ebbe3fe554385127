/**
 * The outline, written: one line a block, indented by one blank a level.
 *
 *     main e1
 *      h2 "Orders"
 *      form "Search" e2
 *       searchbox "Order number" e3 value="42"
 *       button "Go" e4
 *      list
 *       link "Order 42" e5 /orders/42
 *      "Shown are" link "2 of 90" e6 /all "orders."
 *
 * Text of the page is always quoted and never has line ends, so that no page can write a line of its own.
 */

const MAX_TEXT = 1_000;
const MAX_CELL_LINES = 3;
/** A text of the page, on one line; characters that break lines, turn the direction or are never seen are escaped. */
const quoted = (text) => JSON.stringify(text).replace(UNSEEN, (found) => `\\u{${found.codePointAt(0).toString(16)}}`);
const UNSEEN = /[\u007f-\u009f\u2028-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/gu;
const unquoted = (line) => line.replace(/"(?:[^"\\]|\\.)*"/g, '""');
/** Fields that take one way of writing only are called by their type, which ARIA has no role for. */
const FORMED = words('date time datetime-local month week color');
const typeOf = (element) => (element instanceof HTMLInputElement && FORMED.has(element.type) ? element.type : null);
const SHORT_ROLE = { navigation: 'nav', complementary: 'aside', contentinfo: 'footer', spinbutton: 'number' };

/** @returns {string[]} the lines of some parts; `pen` has the element with the focus and the refs' prefix */
function linesOf(parts, pen) {
  const lines = [];
  let run = [];

  /** Controls stand on lines of their own, unless they are part of a sentence. */
  function endRun() {
    if (run.length > 1) run = run.filter(({ text }) => !/^"[.,;:|/·•–—()]+"$/.test(text));
    if (run.some(({ isText }) => isText)) lines.push(run.map(({ text }) => text).join(' '));
    else lines.push(...run.map(({ text }) => text));
    run = [];
  }

  for (const part of parts) {
    if (part === BREAK) {
      endRun();
    } else if (typeof part === 'string') {
      const text = written(part);
      if (text) run.push({ text, isText: true });
    } else {
      const [first, ...below] = nodeLines(part, pen);
      if (below.length) {
        endRun();
        lines.push(first, ...below);
      } else if (first) {
        run.push({ text: first, isText: false });
      }
    }
  }
  endRun();
  return lines;
}

function nodeLines(node, pen) {
  if (node.role === 'listitem') return itemLines(node, pen);
  if (node.role === 'row') return rowLines(node, pen);
  const body = linesOf(node.parts, pen);
  if (node.role === 'cell') return body;
  const head = headOf(node, pen);
  const oneLine = body.length === 1 && !node.name && node.role !== 'list';
  if (oneLine && unquoted(body[0]) === '""') return [`${head} ${body[0]}`];
  if (oneLine && !node.ref) return [`${head}: ${body[0]}`];
  return [head, ...body.map((line) => ` ${line}`)];
}

/** What is in an item stands below its first line. A list in an item needs no line of its own. */
function itemLines(item, pen) {
  const [start, ...more] = item.parts.filter((part) => part !== BREAK);
  const nested = more.length > 0 && start.role !== 'list' && more.every(({ role, name }) => role === 'list' && !name);
  const parts = nested ? [start, BREAK, ...more.flatMap((list) => list.parts)] : item.parts;
  const [first, ...below] = linesOf(parts, pen);
  return first ? [first, ...below.map((line) => ` ${line}`)] : [];
}

/** `"Ann" | "42" | button "Delete" e7`, headers after `head`; cells below each other where a table is there for layout. */
function rowLines(row, pen) {
  const cells = cellsOf(row);
  const contents = cells.map((cell) => linesOf(cell.parts, pen));
  const states = [
    row.ref && `${pen.prefix}${row.ref} clickable`,
    ...statesOf(row.element, row.role, pen.focused),
  ].filter(Boolean);
  const head = states.length ? `row ${states.join(' ')}: ` : '';
  if (contents.some((lines) => lines.length > MAX_CELL_LINES || lines.some((line) => line.startsWith(' ')))) {
    return [head.trim() || 'row', ...contents.flat().map((line) => ` ${line}`)];
  }
  if (contents.every((lines) => !lines.length) && !head) return [];
  const headers = cells.length && cells.every(({ role }) => role === 'columnheader') ? 'head ' : '';
  return [headers + head + contents.map((lines) => lines.join(' ') || '""').join(' | ')];
}

/** The cells of a row, and what stands between them as cells of their own: many a page leaves the roles of cells out. */
function cellsOf(row) {
  const cells = [];
  let loose = [];
  const end = () => {
    if (loose.some((part) => part !== BREAK)) cells.push({ role: 'cell', parts: loose });
    loose = [];
  };
  for (const part of row.parts) {
    if (CELLS.has(part.role)) {
      end();
      cells.push(part);
    } else loose.push(part);
  }
  end();
  return cells;
}

function headOf({ role, element, name, ref }, { focused, prefix }) {
  const title = role === 'heading' ? `h${levelOf(element)}` : (typeOf(element) ?? SHORT_ROLE[role] ?? role);
  const words = [
    title,
    name && quoted(name),
    ref && prefix + ref,
    ...statesOf(element, role, focused),
    urlOf(element, role),
  ];
  return words.filter(Boolean).join(' ');
}

const levelOf = (heading) =>
  /^[1-9]$/.exec(attributeOf(heading, 'aria-level')) ?? /^h([1-6])$/.exec(tagOf(heading))?.[1] ?? 2;

/** A text of the page, quoted. */
function written(text) {
  const clean = text.includes('\n') ? text.replace(/^\s*\n|\s+$/g, '').replace(/[^\S\n]+\n/g, '\n') : squeezed(text);
  return (
    clean &&
    quoted(clean.length > MAX_TEXT ? `${clean.slice(0, MAX_TEXT)}… +${clean.length - MAX_TEXT} characters` : clean)
  );
}
