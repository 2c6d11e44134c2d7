-- events.lua: one node at a time delivers the events of a shard: takes that upon itself, goes on with it, or gives it back.
-- KEYS: events of this shard, their state
-- ARGV: node, for how long (ms; 0: gives it back), how many events are kept, for how long (ms), up to which one all are delivered, after which one to
-- read, how many (both as ids; empty: nothing new)
-- returns {1 if the node has it, 1 if only since now, cursor, dropped undelivered, how many there are, entry…}; the state's cursor is what counts for who
-- has it only since now, and what follows it is what he reads
local time = now()
local me, lease = ARGV[1], tonumber(ARGV[2])
local s = redis.call('HMGET', KEYS[2], 'owner', 'until', 'cursor', 'dropped')
local mine = s[1] == me
if s[1] and not mine and tonumber(s[2]) > time then return {0, 0, '', 0, 0} end
local cursor, after = s[3] or '0-0', ARGV[6]
if mine and ARGV[5] ~= '' then cursor = ARGV[5] end
if not mine or after == '' then after = cursor end
if lease == 0 then
    redis.call('HSET', KEYS[2], 'cursor', cursor)
    if mine then redis.call('HDEL', KEYS[2], 'owner', 'until') end
    return {0, 0, cursor, 0, 0}
end
if not mine or cursor ~= s[3] or tonumber(s[2]) - time < lease * 2 / 3 then
    redis.call('HSET', KEYS[2], 'owner', me, 'until', string.format('%.0f', time + lease), 'cursor', cursor)
end
drop_events(KEYS[1], KEYS[2], tonumber(ARGV[3]), time - ARGV[4], 1000)
local dropped = tonumber(redis.call('HGET', KEYS[2], 'dropped')) or 0
local page = ARGV[7] ~= '0' and redis.call('XREAD', 'COUNT', ARGV[7], 'STREAMS', KEYS[1], after)
local entries = page and page[1][2] or {}
if entries[1] and tonumber(string.match(entries[1][1], '^%d+')) < time - ARGV[4] then entries = {} end -- too old all the same: the next looks drop them
return {1, mine and 0 or 1, cursor, dropped, redis.call('XLEN', KEYS[1]), unpack(entries)}
