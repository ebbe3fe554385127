/**
 * The page's side of a browser runtime, as a Playwright selector engine.
 *
 * Playwright runs it in its isolated world of each document and keeps it as long as the document: page scripts can
 * neither see nor change it, though they own the DOM that it reads. Three kinds of selector:
 *
 *     spaces=e12@k3f9x2              the element of a ref, for Playwright's own click, fill, hover …; @ and the
 *                                    document's token keep a ref of the page before from naming something here
 *     spaces=secrets                 every field that hides its value, for the masks of pictures
 *     spaces=snapshot:eyJ…           a command with arguments (JSON, base64url); what is found is one element that is
 *                                    in no document, and its text is the answer (JSON)
 *
 * All answers are bounded. Everything in them that comes from the page is untrusted.
 */

const MAX_CHARACTERS = 20_000;
let outlined = [];
const KINDS_KEPT = 8;
/** The last outline of each kind: one of a part, or of the controls alone, is not what the next changes are told from. */
const lastOutlines = new Map();

/**
 * The outline in full, or as changes since the last one with the same arguments. `part`: the ref that gives this outline
 * alone, where it stands in another one.
 */
function snapshot({
  mode = 'full',
  interactive_only = false,
  max_characters = MAX_CHARACTERS,
  from_line = 1,
  root = null,
  prefix = '',
  part = null,
}) {
  const element = root ? refs.find(root) : pageBody();
  if (!element && root) return { missing: root };
  const { parts, cuts } = partsOf(element, interactive_only);
  const lines = linesOf(parts, { focused: focusedElement(), prefix });
  outlined = controlsIn(parts);
  const key = JSON.stringify([interactive_only, root, prefix]);
  const last = lastOutlines.get(key);
  const changes = mode === 'diff' && last ? changesBetween(last, lines) : null;
  lastOutlines.delete(key);
  lastOutlines.set(key, lines);
  if (lastOutlines.size > KINDS_KEPT) lastOutlines.delete(lastOutlines.keys().next().value);
  const page = { url: location.href, title: titleOf(), cuts };
  if (changes && sizeOf(changes) < Math.max(sizeOf(lines), 200)) {
    return {
      ...page,
      mode: changes.length ? 'diff' : 'same',
      ...paged(changes, 1, max_characters, 'take the whole with mode=full', cuts),
      frames: framesIn(lines).map(({ ref }) => ({ ref, line: 0 })),
    };
  }
  const how = part ? `go on with ref=${part} from_line=LINE` : 'go on with from_line=LINE, or take one part with ref=REF';
  // What goes on from a line is the document in an iframe, not the iframe's own line.
  const first = root && roleOf(element) === 'iframe' ? 1 : from_line;
  const shown = paged(lines, first, max_characters, how, cuts);
  return { ...page, mode: 'full', ...shown, frames: framesIn(shown.outline.split('\n')) };
}

/** Lines from one on, as many as fit; `next_line` when there are more. */
function paged(lines, from, limit, how, cuts) {
  const shown = [];
  let size = 0;
  for (const line of lines.slice(from - 1)) {
    size += line.length + 1;
    if (size > limit && shown.length) break;
    // Not cut at the caller's limit, which could divide a secret.
    shown.push(cut(line, MAX_CHARACTERS));
  }
  const next = from + shown.length;
  const more = next <= lines.length;
  if (more) shown.push(`… ${lines.length - next + 1} of ${lines.length} lines are left: ${how.replace('LINE', next)}`);
  if (from > 1 && !shown.length) shown.push(`… there are ${lines.length} lines`);
  shown.push(...cuts.map((words) => `… ${words}`));
  return { outline: shown.join('\n'), lines: lines.length, next_line: more ? next : null };
}

const sizeOf = (lines) => lines.reduce((size, line) => size + line.length + 1, 0);
const pageTitle = getter(Document.prototype, 'title');
const titleOf = () => cut(pageTitle(document), 200);

function controlsIn(parts) {
  const nodes = parts.filter((part) => part.parts);
  return nodes.flatMap(({ ref, role, parts }) => [...(ref && CONTROLS.has(role) ? [ref] : []), ...controlsIn(parts)]);
}

/** Frames that the outline names; their own engines have what is in them. `line` of the outline, from 1; 0 in changes. */
function framesIn(lines) {
  return lines.flatMap((line, index) =>
    [...unquoted(line).matchAll(/\biframe (?:"" )?(?:f\d+)?(e\d+)/g)].map(([, ref]) => ({ ref, line: index + 1 })),
  );
}

function text({ max_characters = MAX_CHARACTERS, from_character = 0 }) {
  const { parts, cuts } = partsOf(pageBody(), false);
  const whole = textLines(parts).join('\n');
  const end = from_character + max_characters;
  return {
    url: location.href,
    title: titleOf(),
    text: whole.slice(from_character, end),
    characters: whole.length,
    next_character: end < whole.length ? end : null,
    cuts,
  };
}

/** What a ref names, in words for people and records; `here` is false when it names nothing any more. */
function describe({ ref }) {
  const element = refs.find(ref);
  if (!element) return { here: false };
  const role = roleOf(element) ?? tagOf(element);
  return {
    here: true,
    role,
    takes_files: (tagOf(element) === 'label' ? element.control : element)?.type === 'file',
    formed: element instanceof HTMLInputElement && Object.hasOwn(EXAMPLES, element.type),
    name: nameOf(element, role) || cut(contentOf(element), MAX_NAME),
    secret: isSecret(element),
    url: urlOf(element, role),
  };
}

/** Whether a field can hold a text as its value, and an example where its kind wants a form of its own. */
function accepts({ ref, text }) {
  const element = refs.find(ref);
  const example = element instanceof HTMLInputElement && EXAMPLES[element.type];
  if (!example || !text) return { accepted: true };
  if (['number', 'range'].includes(element.type)) return { accepted: Number.isFinite(Number(text)), example };
  if (element.type === 'color') return { accepted: /^#[0-9a-f]{6}$/i.test(text), example };
  const like = createElement('input');
  like.type = element.type;
  like.value = text;
  return { accepted: like.value !== '', example };
}

/** From now on the value of this element is shown as `[vault:NAME]`. */
function markSecret({ ref, name }) {
  const element = refs.find(ref);
  if (element) vaultNames.set(element, name);
  return { marked: Boolean(element) };
}

const EXAMPLES = {
  color: '#3366ff',
  date: '2026-03-31',
  'datetime-local': '2026-03-31T13:45',
  month: '2026-03',
  number: '7',
  range: '7',
  time: '13:45',
  week: '2026-W14',
};

const COMMANDS = {
  snapshot,
  text,
  describe,
  accepts,
  fields: loginFields,
  check_field: checkField,
  clickable,
  mark_secret: markSecret,
  holds: holding,
  content: pageContent,
  attribute: shownAttribute,
  value: (_, root) => (isSecret(root) ? { secret: true } : { secret: false, value: masked(root.value ?? null) }),
  boxes: ({ refs: given }) => boxesOf(given),
  overlay: drawRefs,
};

function queryAll(root, body) {
  const [, ref, token] = /^(?:f\d+)?(e\d+)(?:@(\w+))?$/.exec(body) ?? [];
  if (ref) return [(!token || token === DOCUMENT) && refs.find(ref)].filter(Boolean);
  if (body === 'secrets') return secretFields();
  const [, name, encoded] = /^(\w+):([\w-]*)$/.exec(body) ?? [];
  if (!name || !Object.hasOwn(COMMANDS, name)) throw new Error(`spaces: unknown command ${body.slice(0, 40)}`);
  const bytes = Uint8Array.from(atob(encoded.replace(/-/g, '+').replace(/_/g, '/')), (byte) => byte.charCodeAt(0));
  const answer = createElement('div');
  answer.textContent = JSON.stringify({
    document: DOCUMENT,
    ...COMMANDS[name](JSON.parse(new TextDecoder().decode(bytes)), root),
  });
  return [answer];
}
