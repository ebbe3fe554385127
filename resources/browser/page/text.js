/**
 * The page to read: its texts in order, a block a line, cells of a row divided by tabs, nothing that is typed.
 */

/** @returns {string[]} lines */
function textLines(parts) {
  const lines = [];
  let line = '';
  const end = () => {
    if (line.trim()) lines.push(line.trim());
    line = '';
  };
  for (const part of parts) {
    if (part === BREAK) end();
    else if (typeof part === 'string') line += part;
    else if (part.role === 'row') lines.push(part.parts.filter((cell) => cell.parts).map((cell) => textLines(cell.parts).join(' ')).join('\t'));
    else if (CONTROLS.has(part.role) || part.role === 'img') line += NAMED_BY_CONTENT.has(part.role) || part.role === 'clickable' ? ` ${part.name} ` : '';
    else {
      end();
      lines.push(...textLines(part.parts));
    }
  }
  end();
  return lines.map((text) => text.replace(/[^\S\n\t]+/g, ' '));
}
