-- whisper.lua: one message to one session, through the inbox of the node it is at.
-- KEYS: session, and once when there is an idempotency key
-- ARGV: what stands before and after a node's name in its inbox channel, envelope up to data, data, tag, once ttl ms (negative:
-- replicas will be waited for)
-- returns {offset, tag, 1 if it had been published before}; offset -1: no such session, -2: its node does not listen,
-- -3: nobody has it at the moment
local tag = ARGV[5]

if KEYS[2] then
    local o, t = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) ([%w_-]+)$')
    if o then
        if tonumber(ARGV[6]) < 0 then redis.call('SET', KEYS[2], o .. ' ' .. t, 'KEEPTTL') end -- as in publish.lua
        return {tonumber(o), t, 1}
    end
end

local s = redis.call('HMGET', KEYS[1], 'node', 'offset', 'tag', 'state')
if not s[1] or s[4] == 'ending' then return {-1, '', 0} end
if s[4] == 'parked' then return {-3, '', 0} end
local offset = (tonumber(s[2]) or 0) + 1
local envelope = ARGV[3] .. ARGV[4] .. place(offset, now(), s[3] or '', tag)
if redis.call('PUBLISH', ARGV[1] .. s[1] .. ARGV[2], envelope) == 0 then return {-2, '', 0} end
redis.call('HSET', KEYS[1], 'offset', offset, 'tag', tag)
if KEYS[2] then redis.call('SET', KEYS[2], offset .. ' ' .. tag, 'PX', math.abs(ARGV[6])) end
return {offset, tag, 0}
