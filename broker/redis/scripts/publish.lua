-- publish.lua: one message: its offset, its place in the log, its way to the nodes, all in one step.
-- KEYS: head, log, members, and once when there is an idempotency key, else in a cluster one that never exists
-- ARGV: channel, envelope up to data, data, tag, retain count, retain age ms, keep ms, once ttl ms (0: no such key; negative:
-- replicas will be waited for), then fields for the log
-- returns {offset, tag, 1 if it had been published before, nodes that were told}
local channel, first_part, data, tag = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local count, age, keep = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local once = ARGV[8] ~= '0' and KEYS[4]

if once then
    local o, t = string.match(redis.call('GET', once) or '', '^(%d+) ([%w_-]+)$')
    if o then
        -- WAIT speaks of what its connection wrote last, and that must be here, not before the message.
        if tonumber(ARGV[8]) < 0 then redis.call('SET', once, o .. ' ' .. t, 'KEEPTTL') end
        return {tonumber(o), t, 1}
    end
end

local offset, prev, old_age = head(KEYS[1])
local time = now()
if offset == 0 then
    -- A log may outlive a head that was evicted: its numbers go on.
    local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
    if last then
        offset = tonumber(string.match(last[1], '^%d+'))
        for i = 1, #last[2], 2 do
            if last[2][i] == 'tag' then prev = last[2][i + 1] end
        end
    end
    redis.call('HSETNX', KEYS[1], 'created', time)
end
offset = offset + 1
redis.call('HSET', KEYS[1], 'offset', offset, 'tag', tag)

local empty = redis.call('EXISTS', KEYS[3]) == 0
if count > 0 then
    redis.call('XADD', KEYS[2], 'MAXLEN', '=', count, offset .. '-0', 'time', time, 'tag', tag, unpack(ARGV, 9))
    if age ~= old_age then redis.call('HSET', KEYS[1], 'age', age) end
    if age > 0 then
        -- Ids are offsets, so Redis cannot trim by time; up to three of the oldest with every new one keeps up.
        for _ = 1, 3 do
            local entry = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
            if not entry or entry[2][1] ~= 'time' or (tonumber(entry[2][2]) or time) > time - age then break end
            redis.call('XDEL', KEYS[2], entry[1])
        end
        redis.call('PEXPIRE', KEYS[2], age)
    elseif empty then
        redis.call('PEXPIRE', KEYS[2], keep)
    elseif old_age > 0 then
        redis.call('PERSIST', KEYS[2])
    end
end
if empty then redis.call('PEXPIRE', KEYS[1], math.max(keep, age)) end

local nodes = redis.call('PUBLISH', channel, first_part .. data .. place(offset, time, prev, tag))
if once then redis.call('SET', once, offset .. ' ' .. tag, 'PX', math.abs(ARGV[8])) end
return {offset, tag, 0, nodes}
