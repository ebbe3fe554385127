/**
 * The page to read: its texts in order, a block a line, cells of a row divided by tabs, nothing that is typed.
 */

/** @returns {string[]} lines */
function textLines(parts) {
  const lines = [];
  let line = '';
  const end = () => {
    lines.push(
      ...line
        .split('\n')
        .map((text) => text.trimEnd())
        .filter(Boolean),
    );
    line = '';
  };
  for (const part of parts) {
    if (part === BREAK) end();
    else if (typeof part === 'string') line += line ? part : part.replace(/^[^\S\n]+(?=\S)/, '');
    else if (CONTROLS.has(part.role) || part.role === 'img')
      line += `${line && !line.endsWith(' ') ? ' ' : ''}${shownText(part)}`;
    else {
      end();
      lines.push(...(part.role === 'row' ? rowText(part) : textLines(part.parts)));
    }
  }
  end();
  return lines;
}

/** What a control says of itself: its content or its label, never its value. */
function shownText({ role, element, name }) {
  if (isSecret(element) || element.labels?.length) return name;
  const content = role === 'clickable' || (NAMED_BY_CONTENT.has(role) && !isTextControl(element));
  return content ? contentOf(element, { length: MAX_TEXT }) : '';
}

function rowText(row) {
  const cells = cellsOf(row).map((cell) => textLines(cell.parts));
  return cells.some((lines) => lines.length > MAX_CELL_LINES)
    ? cells.flat()
    : [cells.map((lines) => lines.join(' ')).join('\t')];
}
