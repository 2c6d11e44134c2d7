-- secrets.lua: the secrets that all nodes share: adds one when it is time, drops the old ones.
-- KEYS: secrets (a sorted set: text, time from which on it is used)
-- ARGV: a fresh secret; for how long each is used, ms; how long before that it must be known, ms
-- returns {text, ms since when it is used…}, oldest first; negative: not yet
local time, period, lead = now(), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', time - 2 * period))
local newest = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
local from
if not newest then
    from = time
elseif newest + period - lead <= time then
    from = math.max(newest + period, time + lead)
end
if from then
    redis.call('ZADD', KEYS[1], string.format('%.0f', from), ARGV[1])
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', from - time + 3 * period))
end
local answer = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 2, #answer, 2 do answer[i] = time - answer[i] end
return answer
