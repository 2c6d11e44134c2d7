-- leave.lua: a session is no longer a member of a room, if it was one through this node.
-- KEYS: members, head, log, and in a cluster one that never exists
-- ARGV: channel, session, node ('*': any), envelope, keep ms
-- returns {offset, tag, members, 1 if it was a member}
local offset, tag, age = head(KEYS[2])
local old = redis.call('HGET', KEYS[1], ARGV[2])
if not old or (ARGV[3] ~= '*' and string.match(old, '^[^ ]+') ~= ARGV[3]) then
    return {offset, tag, redis.call('HLEN', KEYS[1]), 0}
end
redis.call('HDEL', KEYS[1], ARGV[2])
local total = redis.call('HLEN', KEYS[1])
if total == 0 then
    -- Peers invent room names: what nobody is in any more must not stay for ever.
    local keep = tonumber(ARGV[5])
    redis.call('PEXPIRE', KEYS[2], math.max(keep, age))
    if redis.call('PTTL', KEYS[3]) == -1 then redis.call('PEXPIRE', KEYS[3], math.max(keep, age)) end
end
redis.call('PUBLISH', ARGV[1], ARGV[4] .. string.char(11 * 8) .. varint(total) .. place(offset, now(), '', tag))
return {offset, tag, total, 1}
