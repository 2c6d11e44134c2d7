// verify.mjs: is a request from the gateway? Node, nothing else needed. The same in any language: docs/backend.md
import { createHmac, timingSafeEqual } from 'node:crypto';

const WINDOW_S = 300; // older requests are somebody's recording; the clocks of both sides need NTP

/**
 * @param headers of the request, names in lower case
 * @param body the bytes of the body, as they came: before any JSON.parse
 * @param keys what stands in backend-secret-file; while keys change: the old and the new one
 * @returns undefined, or what is wrong
 */
export function problem(headers, body, keys, { now = Date.now() / 1000 } = {}) {
  const time = headers['xindao-timestamp'];
  if (!/^\d{1,12}$/.test(time ?? '')) return 'no timestamp';
  if (Math.abs(now - Number(time)) > WINDOW_S) return 'too old, or a clock is wrong';
  const signatures = (headers['xindao-signature'] ?? '').split(',').filter(s => /^v1=[0-9a-f]{64}$/.test(s)).map(s => Buffer.from(s.slice(3), 'hex'));
  for (const key of keys.filter(k => k.length > 0)) { // what an empty line of a file would sign, anybody can
    const ours = createHmac('sha256', key).update(`${time}.`).update(body).digest();
    if (signatures.some(theirs => timingSafeEqual(ours, theirs))) return undefined;
  }
  return 'the signature is not ours';
}
