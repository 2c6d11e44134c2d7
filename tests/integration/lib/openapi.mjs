// openapi.mjs: the operations of docs/openapi.yaml, which tests/lint/openapi.sh compares with the routes of the program
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './cluster.mjs';

/** [{id, method, path, scope, open}]; open: clients may ask, too. The document is written in a form that needs no parser of YAML. */
export function operations() {
  const found = [];
  let path, current;
  for (const line of readFileSync(join(ROOT, 'docs/openapi.yaml'), 'utf8').split('\n')) {
    if (line.startsWith('components:')) break;
    path = line.match(/^ {2}(\/\S*):$/)?.[1] ?? path;
    const method = line.match(/^ {4}(get|put|post|patch|delete):$/)?.[1];
    if (method) found.push(current = { method: method.toUpperCase(), path, open: false });
    const [, name, value] = line.match(/^ {6}(operationId|x-scope|security): (.*)$/) ?? [];
    if (name === 'operationId') current.id = value;
    if (name === 'x-scope') current.scope = value;
    if (name === 'security') current.open = value.includes('token');
  }
  for (const o of found) if (!o.id || !o.scope) throw new Error(`docs/openapi.yaml: ${o.method} ${o.path} needs an operationId and an x-scope`);
  if (found.length === 0 || new Set(found.map(o => o.id)).size !== found.length) throw new Error('docs/openapi.yaml: every operation needs an operationId of its own');
  return found;
}
