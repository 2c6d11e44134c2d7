-- wechat_put.lua: somebody who has logged in at WeChat has one login more; what is over goes, and of too many the one that was not checked for longest.
-- KEYS: him
-- ARGV: name, hash, most logins, whole ms, idle ms, keep ms, then fields and values of his
-- returns 1
local time, whole, idle, keep = now(), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local all, count, oldest, oldest_seen = redis.call('HGETALL', KEYS[1]), 0, nil, nil
for i = 1, #all, 2 do
    if string.sub(all[i], 1, 6) == 'login:' and all[i] ~= 'login:' .. ARGV[1] then
        local since, seen = string.match(all[i + 1], '^%S+ (%d+) (%d+)$')
        since, seen = tonumber(since), tonumber(seen)
        if not since or time >= math.min(since + whole, seen + idle) + keep then
            redis.call('HDEL', KEYS[1], all[i])
        else
            count = count + 1
            if not oldest or seen < oldest_seen then oldest, oldest_seen = all[i], seen end
        end
    end
end
if count >= tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], oldest) end
redis.call('HSET', KEYS[1], 'login:' .. ARGV[1], string.format('%s %.0f %.0f', ARGV[2], time, time), unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(whole, idle) + keep))
return 1
