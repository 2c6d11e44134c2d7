// lib/position.mjs: what tests need to know of positions, "41.Qn4wXk2_": the 41st message of its room, and its tag.

export const offsetOf = position => Number(position.split('.')[0]);

export function parts(position) {
  const [offset, tag = ''] = position.split('.');
  return { offset: Number(offset), tag };
}

export const written = ({ offset, tag }) => offset === 0 ? '0' : `${offset}.${tag}`;
