// docs.mjs: what README.md and docs name is there: files and their headings, options, metrics
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const read = file => readFileSync(file, 'utf8');
const list = (dir, end) => readdirSync(dir).filter(f => f.endsWith(end)).map(f => join(dir, f));
const words = (files, re) => new Set(files.flatMap(f => [...read(f).matchAll(re)].map(m => m[1])));

const pages = ['README.md', ...list('docs', '.md')];
const options = words([...list('gateway', '.c').filter(f => /config|main/.test(f)), ...list('gateway/doctor', '.c')], /"([a-z][a-z0-9-]+)"/g);
const metrics = words(['gateway/metrics.h', 'gateway/metrics.c'], /X\((\w+), *"(?:counter|gauge)"/g), redis = words(['gateway/metrics.c'], /X\((\w+), *"(?:counter|gauge)"/g);
for (const name of redis) metrics.add(`redis_${name}`);
for (const name of words(['gateway/metrics.c'], /"([a-z_]+)"/g)) metrics.add(name); // those with labels, and histograms

/** As GitHub and most others make them. */
const anchor = heading => heading.trim().toLowerCase().replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-');
const headings = file => new Set([...read(file).matchAll(/^#+ (.*)$/gm)].map(m => anchor(m[1])));
const isMetric = name => [name, name.replace(/_(total|bucket|sum|count)$/, ''), name.replace(/(_seconds)?_(total|bucket|sum|count)$/, '')].some(n => metrics.has(n));

export function check(file, text) {
  const wrong = [];
  for (const [, path, where] of text.matchAll(/\]\(([^)#\s]*)(#[^)\s]*)?\)/g)) {
    if (/^[a-z]+:/.test(path)) continue;
    const target = path ? normalize(join(dirname(file), path)) : file;
    if (!existsSync(target)) wrong.push(`there is no ${path}`);
    else if (where && target.endsWith('.md') && !(path ? headings(target) : new Set([...text.matchAll(/^#+ (.*)$/gm)].map(m => anchor(m[1])))).has(where.slice(1))) wrong.push(`${path} has no heading ${where}`);
  }
  for (const [, path] of text.matchAll(/`((?:base|broker|deploy|docs|gateway|proto|sdk|tests)\/[\w./-]+)`/g)) if (!existsSync(path)) wrong.push(`there is no ${path}`);
  for (const [, option] of text.matchAll(/`--([a-z]+(?:-[a-z]+)+)\b/g)) if (!options.has(option.replace(/^no-/, ''))) wrong.push(`there is no option --${option}`);
  for (const [, name] of text.matchAll(/\bxindao_([a-z_]+[a-z])\b(?!\*)/g)) if (!isMetric(name)) wrong.push(`there is no metric xindao_${name}`);
  return wrong.map(w => `${file}: ${w}`);
}

// It must be able to fail.
const bad = '[a](nowhere.md) [b](#nothing) `gateway/nobody.c` `--no-such-option` xindao_nothing_total';
if (check('README.md', bad).length !== 5 || check('README.md', '# A `b`\n[c](#a-b) [d](docs/api.md#publishing) `--log-level` `gateway/main.c` xindao_drops_total').length !== 0) {
  console.log(check('README.md', bad), 'tests/lint/docs.mjs: self-check: it does not see what is wrong, or sees what is not');
  process.exit(1);
}
const found = pages.flatMap(p => check(p, read(p)));
for (const f of found) console.log(f);
process.exit(found.length ? 1 : 0);
