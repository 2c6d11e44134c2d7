-- suspend.lua: a member's connection is gone, but it may come back.
-- KEYS: members, head, and in a cluster one that never exists
-- ARGV: channel, session, node it must have come through ('*': any), envelope
-- returns {offset, tag, members, 1 if it was active}
local offset, tag = head(KEYS[2])
local old = redis.call('HGET', KEYS[1], ARGV[2]) or ''
local node, since, state, user = string.match(old, '^([^ ]+) (%d+) (%a+) (.*)$')
local total = redis.call('HLEN', KEYS[1])
if state ~= 'active' or (ARGV[3] ~= '*' and node ~= ARGV[3]) then return {offset, tag, total, 0} end
redis.call('HSET', KEYS[1], ARGV[2], node .. ' ' .. since .. ' suspended ' .. user)
redis.call('PUBLISH', ARGV[1], ARGV[4] .. string.char(11 * 8) .. varint(total) .. place(offset, now(), '', tag))
return {offset, tag, total, 1}
