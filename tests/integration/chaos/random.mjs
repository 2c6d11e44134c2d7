// random.mjs: numbers that a seed determines

/** Each stream is independent of how often the others are asked: `random(7, 'faults')` is the same in every run. */
export function random(seed, stream = '') {
  let a = seed >>> 0;
  for (const ch of stream) a = Math.imul(a ^ ch.charCodeAt(0), 0x01000193) >>> 0;
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const int = (from, to) => from + Math.floor(next() * (to - from + 1));
  return { next, int, pick: list => list[int(0, list.length - 1)], chance: p => next() < p };
}
