/**
 * Refs: short names of elements, the same in every answer about one document.
 *
 * Elements are held weakly. A ref of an element that was removed, or of another document, names nothing.
 */

const DOCUMENT = [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => (byte % 36).toString(36)).join('');

const refs = (() => {
  const byElement = new WeakMap();
  const byRef = new Map();
  const forgotten = new FinalizationRegistry((ref) => byRef.delete(ref));
  let last = 0;
  return {
    of(element) {
      let ref = byElement.get(element);
      if (!ref) {
        ref = `e${++last}`;
        byElement.set(element, ref);
        byRef.set(ref, new WeakRef(element));
        forgotten.register(element, ref);
      }
      return ref;
    },
    /** The element of "e12" or "f1e12", when it is still in this document; else null. */
    find(ref) {
      const element = byRef.get(/e\d+$/.exec(ref ?? '')?.[0])?.deref();
      return element && isConnected(element) && documentOf(element) === document ? element : null;
    },
  };
})();
