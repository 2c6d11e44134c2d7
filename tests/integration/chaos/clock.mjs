// clock.mjs: a wall clock of its own for a gateway, through libfaketime; the monotonic clock stays the machine's
import { execFileSync } from 'node:child_process';
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gatewayBinary } from '../lib/cluster.mjs';

const places = ['/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1', '/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1', '/usr/lib/faketime/libfaketimeMT.so.1'];

/** libfaketime's path; throws where there is none. */
export function library() {
  const found = places.find(existsSync);
  if (!found) throw new Error('no libfaketime here (Debian: libfaketime)');
  return found;
}

export class Clock {
  constructor(dir, name) {
    this.file = join(dir, `${name}.clock`);
    this.offset = 0;
    this.jump(0);
    // A sanitizer that is a library insists on being the first one.
    const sanitizer = execFileSync('ldd', [gatewayBinary()]).toString().match(/libasan\S* => (\S+)/)?.[1];
    this.exec = ['env', `LD_PRELOAD=${[sanitizer, library()].filter(Boolean).join(' ')}`, `FAKETIME_TIMESTAMP_FILE=${this.file}`, 'FAKETIME_NO_CACHE=1',
      'FAKETIME_DONT_FAKE_MONOTONIC=1', 'DONT_FAKE_MONOTONIC=1'];
  }

  /** From now on the clock shows so many seconds more (less) than before. */
  jump(seconds) {
    this.offset += seconds;
    writeFileSync(`${this.file}.new`, `${this.offset < 0 ? '' : '+'}${this.offset}\n`);
    renameSync(`${this.file}.new`, this.file);
  }
}
