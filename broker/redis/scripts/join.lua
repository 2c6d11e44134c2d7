-- join.lua: a session becomes a member of a room; whoever is there hears of it.
-- KEYS: members, head, log, and in a cluster one that never exists
-- ARGV: channel, session, node, user, envelope
-- returns {offset, tag, members, member since}
local since = now()
local time = since
local old = redis.call('HGET', KEYS[1], ARGV[2])
local again = ''
if old then
    local node, first, state = string.match(old, '^([^ ]+) (%d+) (%a+) ')
    since = tonumber(first) or since
    -- Field 18: for whoever was in already this is a marker for its own node, and no news for the others.
    if node == ARGV[3] and state == 'active' then again = '\144\1\1' end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. ' ' .. since .. ' active ' .. ARGV[4])

local offset, tag, age = head(KEYS[2])
redis.call('PERSIST', KEYS[2])
if age == 0 then redis.call('PERSIST', KEYS[3]) end
local total = redis.call('HLEN', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[5] .. again .. string.char(11 * 8) .. varint(total) .. place(offset, time, '', tag))
return {offset, tag, total, since}
