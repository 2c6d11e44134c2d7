// s6.test.mjs: scenario S6, a turn-based board game: rooms over https before any socket, then every move in one order to all
import { after, before, describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Cluster } from './lib/cluster.mjs';
import { unique } from './lib/client.mjs';
import { until } from './lib/wait.mjs';
import { offsetOf } from './lib/position.mjs';

describe('S6, a turn-based board game', { timeout: 120000 }, () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ gateways: 2 }); });
  after(() => cluster.stop());

  it('reads the rooms over https, plays, drops out and comes back', async () => {
    const [gw1, gw2] = cluster.gateways, room = unique('dig-for-gold');
    const list = async gw => (await gw.get('/api/v1/rooms')).json.rooms;
    assert.equal((await list(gw1)).some(r => r.room === room), false);
    const players = [await gw1.client('p1'), await gw2.client('p2'), await gw1.client('p3')];
    for (const p of players) await p.join(room);
    assert.deepEqual((await list(gw2)).filter(r => r.room === room), [{ room, total: 3 }]);
    const state = (await gw1.get(`/api/v1/rooms/${room}`)).json;
    assert.deepEqual(state.members.map(m => m.user).sort(), ['p1', 'p2', 'p3']);

    // Everybody moves whenever it likes; the turn is decided by the order in which moves arrive, which is the same for all.
    for (let round = 0; round < 10; round++) for (const [i, p] of players.entries()) p.send({ type: 'publish', room, event: 'move', data: { player: i, round } });
    const games = await Promise.all(players.map(async p => {
      const moves = [];
      while (moves.length < 30) moves.push(await p.message(room));
      let turn = 0;
      const board = [];
      for (const m of moves) if (m.data.player === turn) { board.push(m.data); turn = (turn + 1) % 3; }
      return { offsets: moves.map(m => offsetOf(m.position)), board, last: moves.at(-1).position };
    }));
    assert.deepEqual(games[0].offsets, Array.from({ length: 30 }, (_, i) => i + 1));
    assert.deepEqual(games[1], games[0]);
    assert.deepEqual(games[2], games[0]);
    assert.ok(games[0].board.length >= 1, 'the first player has moved');

    // Somebody who has no socket yet reads the whole game over https, from another node.
    const record = (await gw2.get(`/api/v1/rooms/${room}/history?after=0`)).json;
    assert.deepEqual([record.messages.map(m => offsetOf(m.position)), record.more], [games[0].offsets, false]);
    assert.deepEqual(record.messages.at(-1).position, games[0].last);

    await players[1].drop();
    const left = await players[0].next('exit');
    assert.deepEqual([left.user, left.reason, left.total], ['p2', 'disconnect', 2]);
    await players[0].publish(room, { player: 0, round: 10 }, { event: 'move' });
    await until(async () => (await gw2.get(`/api/v1/rooms/${room}`)).json.total === 2, { what: 'two players' });
    const back = await gw1.client('p2'), again = await back.join(room);
    assert.equal(again.total, 3);
    assert.equal(offsetOf(again.position), offsetOf(games[0].last) + 1, 'the player sees from the position what it has missed');
    assert.deepEqual((await gw2.get(`/api/v1/rooms/${room}`)).json.position, again.position);
    for (const p of [players[0], players[2], back]) await p.close();
  });
});
