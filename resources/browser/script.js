/**
 * A script of the agent's own, run as Playwright runs one, and its answer as one text of bounded length: `=` and the
 * result as JSON, `!` and what it threw, `?` and why there is no JSON of the result, or `>` when that is too long.
 *
 * The page's own scripts may have replaced any function here. So what leaves is measured by syntax alone: the length
 * of a primitive string is what it is.
 */
async (...given) => {
  const { script, arg, max } = given[given.length - 1];
  const TOLD = 300;
  const told = (thrown) => {
    let text = 'something that has no words';
    try {
      text = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : `${thrown}`;
    } catch {}
    let short = '';
    for (let at = 0; at < TOLD && at < text.length; at += 1) short += text[at];
    return short;
  };
  let result;
  try {
    result = (0, eval)(script);
    if (typeof result === 'function') result = given.length > 1 ? result(given[0], arg) : result(arg);
    result = await result;
  } catch (thrown) {
    return `!${told(thrown)}`;
  }
  let left = max;
  const plain = (name, value) => {
    left -= typeof value === 'string' ? value.length : 1;
    if (left < 0) throw new RangeError('too long');
    if (typeof value === 'bigint' || (typeof value === 'number' && !(value - value === 0))) return `${value}`;
    if (value === null || typeof value !== 'object') return value;
    if (value.window === value) return 'ref: <Window>';
    if (value instanceof Node) return value instanceof Document ? 'ref: <Document>' : 'ref: <Node>';
    return value instanceof Error || value instanceof RegExp ? `${value}` : value;
  };
  try {
    // Another site's window refuses to be asked for anything else.
    const text = result !== null && typeof result === 'object' && result.window === result
      ? '"ref: <Window>"' : JSON.stringify(result, plain);
    if (typeof text !== 'string') return '=null';
    return text.length > max ? '>' : `=${text}`;
  } catch (thrown) {
    return left < 0 ? '>' : `?${told(thrown)}`;
  }
}
