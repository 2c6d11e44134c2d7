// parse.mjs: does every file parse? One process for all. Usage: node --no-warnings --experimental-vm-modules tests/lint/parse.mjs FILE…
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Script, SourceTextModule } from 'node:vm';

const asModule = text => new SourceTextModule(text);
const asScript = text => new Script(`(function (exports, require, module) {${text.replace(/^#!.*/, '')}\n})`);

/** A .js is what a page or an application takes it for. */
function parses(text, file) {
  return (file.endsWith('.mjs') ? [asModule] : [asScript, asModule]).some(as => { try { as(text); return true; } catch { return false; } });
}

if (parses('let x = ;', 'a.mjs') || parses('await 1; {', 'a.js') || !parses('export default await 1', 'a.mjs') || !parses('return require', 'a.js')) throw new Error('it does not see what does not parse');
for (const file of process.argv.slice(2)) {
  if (parses(readFileSync(file, 'utf8'), file)) continue;
  console.log(`${file} does not parse\n${spawnSync(process.execPath, ['--check', file]).stderr}`); // where
  process.exitCode = 1;
}
