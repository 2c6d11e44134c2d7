// metrics.mjs: a strict reader of the Prometheus text format 0.0.4
const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"/y;
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? ([^ ]+)$`);
const TYPES = new Set(['counter', 'gauge', 'histogram', 'summary', 'untyped']);

function readLabels(text, line) {
  const labels = {};
  let at = 0;
  while (at < text.length) {
    LABEL.lastIndex = at;
    const m = LABEL.exec(text);
    if (!m) throw new Error(`bad labels: ${line}`);
    if (m[1] in labels) throw new Error(`label ${m[1]} twice: ${line}`);
    labels[m[1]] = m[2].replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    at = LABEL.lastIndex;
    if (at < text.length && text[at++] !== ',') throw new Error(`bad labels: ${line}`);
  }
  return labels;
}

function readValue(text, line) {
  if (text === '+Inf') return Infinity;
  if (text === '-Inf') return -Infinity;
  if (text === 'NaN') return NaN;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) throw new Error(`bad value: ${line}`);
  return Number(text);
}

export class Metrics {
  /** Throws on whatever Prometheus would refuse, and on what its documentation forbids. */
  static parse(text) {
    const m = new Metrics();
    m.types = new Map(); m.help = new Map(); m.samples = [];
    if (!text.endsWith('\n')) throw new Error('the last line does not end in a newline');
    const seen = new Set(), closed = new Set();
    let family = null;
    for (const line of text.slice(0, -1).split('\n')) {
      if (line === '') continue;
      const meta = new RegExp(`^# (HELP|TYPE) (${NAME}) (.*)$`).exec(line);
      if (meta) {
        const [, what, name, rest] = meta, map = what === 'TYPE' ? m.types : m.help;
        if (map.has(name)) throw new Error(`second ${what} of ${name}`);
        if (closed.has(name)) throw new Error(`${name} is not in one group`);
        if (what === 'TYPE' && !TYPES.has(rest)) throw new Error(`bad type: ${line}`);
        map.set(name, rest);
        if (family !== name) { if (family) closed.add(family); family = name; }
        continue;
      }
      if (line.startsWith('#')) continue;
      const s = SAMPLE.exec(line);
      if (!s) throw new Error(`bad line: ${line}`);
      const [, name, labelText, value] = s, labels = readLabels(labelText ?? '', line);
      const base = name.replace(/_(bucket|sum|count)$/, ''), of = m.types.has(name) ? name : ['histogram', 'summary'].includes(m.types.get(base)) ? base : name;
      if (of !== family) throw new Error(`${name} without its TYPE just above`);
      const key = name + JSON.stringify(Object.entries(labels).sort());
      if (seen.has(key)) throw new Error(`twice: ${line}`);
      seen.add(key);
      m.samples.push({ name, labels, value: readValue(value, line) });
    }
    m.#checkHistograms();
    return m;
  }

  #checkHistograms() {
    for (const [name, type] of this.types) {
      if (type === 'counter' && !name.endsWith('_total')) throw new Error(`counter ${name} does not end in _total`);
      if (type !== 'histogram') continue;
      const series = new Map();
      for (const s of this.samples.filter(x => x.name === `${name}_bucket`)) {
        const { le, ...rest } = s.labels, key = JSON.stringify(rest);
        if (le === undefined) throw new Error(`${name}_bucket without le`);
        (series.get(key) ?? series.set(key, []).get(key)).push([le === '+Inf' ? Infinity : Number(le), s.value]);
      }
      for (const [key, buckets] of series) {
        for (let i = 1; i < buckets.length; i++)
          if (buckets[i][0] <= buckets[i - 1][0] || buckets[i][1] < buckets[i - 1][1]) throw new Error(`${name}${key}: buckets do not grow`);
        if (buckets.at(-1)[0] !== Infinity) throw new Error(`${name}${key}: no +Inf bucket`);
        if (this.sum(`${name}_count`, JSON.parse(key)) !== buckets.at(-1)[1]) throw new Error(`${name}${key}: count is not the +Inf bucket`);
      }
    }
  }

  has(name) { return this.samples.some(s => s.name === name); }

  /** Sum of the samples with that name whose labels include these. */
  sum(name, labels = {}) {
    let total = 0;
    for (const s of this.samples) if (s.name === name && Object.entries(labels).every(([k, v]) => s.labels[k] === v)) total += s.value;
    return total;
  }
}
