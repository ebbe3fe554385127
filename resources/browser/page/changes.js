/**
 * What changed between two outlines of one document.
 *
 *     @ main e1 > list
 *     + link "Order 43" e9 /orders/43
 *     ~ checkbox "Paid" e7 checked
 *     - "Nothing yet"
 *
 * `@` says below what; `~` is a line that is still there, in its new words.
 */

/** Above this product of line numbers a comparison costs more than reading the whole outline again. */
const MAX_COMPARED = 2_000_000;

/** @returns {string[]|null} lines of changes, or null when the two are too long to compare */
function changesBetween(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const old = before.slice(start, before.length - end);
  const fresh = after.slice(start, after.length - end);
  if (old.length * fresh.length > MAX_COMPARED) return null;

  const changes = [];
  let under = '';
  let goneDepth = Infinity;
  const say = (sign, line, lines, index) => {
    const place = ancestorsOf(lines, index);
    if (place !== under) changes.push(`@ ${(under = place)}`);
    changes.push(`${sign} ${line.trim()}`);
  };
  const kept = commonLines(old, fresh);
  const refsAfter = new Set(fresh.map(refIn));
  const linesBefore = new Map(old.map((line) => [refIn(line), line]));
  for (let i = 0, j = 0; i < old.length || j < fresh.length;) {
    if (i < old.length && kept[i] === j) {
      goneDepth = Infinity;
      i++;
      j++;
    } else if (i < old.length && kept[i] === -1) {
      const isGone = !refIn(old[i]) || !refsAfter.has(refIn(old[i]));
      // What stood below a line that went has gone with it.
      if (depthOf(old[i]) <= goneDepth) goneDepth = Infinity;
      if (isGone && goneDepth === Infinity) {
        say('-', old[i], before, start + i);
        goneDepth = depthOf(old[i]);
      }
      i++;
    } else {
      const line = refIn(fresh[j]) && linesBefore.get(refIn(fresh[j]));
      // Where the focus is now is told there.
      if (!line || !hasOnlyLostFocus(line.trim(), fresh[j].trim())) say(line ? '~' : '+', fresh[j], after, start + j);
      j++;
    }
  }
  return changes;
}

const hasOnlyLostFocus = (line, now) =>
  [...line.matchAll(/ focused(?= |$)/g)].some(({ index }) => line.slice(0, index) + line.slice(index + 8) === now);

const depthOf = (line) => line.search(/\S/);

/** The first ref of a line outside of quotes. */
const refIn = (line) => /(?:^| )((?:f\d+)?e\d+)(?= |$|:)/.exec(unquoted(line))?.[1];

/** For each old line the index of the fresh line that it is, or -1: a longest common subsequence. */
function commonLines(old, fresh) {
  const width = fresh.length + 1;
  const longest = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = fresh.length - 1; j >= 0; j--) {
      const at = i * width + j;
      longest[at] = old[i] === fresh[j] ? longest[at + width + 1] + 1 : Math.max(longest[at + width], longest[at + 1]);
    }
  }
  const kept = [];
  for (let i = 0, j = 0; i < old.length; i++) {
    while (j < fresh.length && old[i] !== fresh[j] && longest[i * width + j + 1] >= longest[(i + 1) * width + j]) j++;
    kept.push(j < fresh.length && old[i] === fresh[j] ? j++ : -1);
  }
  return kept;
}

/** The lines that a line stands below, outermost first, each without what follows its ref. */
function ancestorsOf(lines, index) {
  const above = [];
  for (let at = index - 1, level = depthOf(lines[index]); at >= 0 && level > 0; at--) {
    if (depthOf(lines[at]) < level) {
      level = depthOf(lines[at]);
      above.unshift(cut(lines[at].trim(), 60));
    }
  }
  return above.slice(-3).join(' > ') || 'page';
}
