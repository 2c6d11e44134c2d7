// unused.mjs: names that a file imports or declares at its top and never says again. Usage: node tests/lint/unused.mjs FILE…
import { readFileSync } from 'node:fs';

/** Comments say nothing; a string may (code for another process, a template). */
const stripped = text => text.replace(/\/\*[^]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');

function names(text) {
  const found = [];
  for (const [, list] of text.matchAll(/^import\s+([^'"]+?)\s+from\s/gm)) {
    for (const part of list.replace(/[{}]/g, ',').split(',')) {
      const name = part.trim().split(/\s+as\s+/).pop();
      if (name) found.push(name);
    }
  }
  for (const [, name] of text.matchAll(/^(?:const|let|var|class|(?:async\s+)?function\*?)\s+([\w$]+)/gm)) found.push(name);
  return found;
}

for (const file of process.argv.slice(2)) {
  const text = stripped(readFileSync(file, 'utf8'));
  for (const name of names(text)) {
    const said = text.match(new RegExp(`(?<![\\w$])${name.replace(/\$/g, '\\$&')}(?![\\w$])`, 'g')).length;
    if (said > 1) continue;
    console.log(`${file}: ${name} is not used`);
    process.exitCode = 1;
  }
}
