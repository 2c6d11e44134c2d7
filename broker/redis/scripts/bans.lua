-- bans.lua: a page of the list of bans, those that end first first. What is over is taken out of it.
-- KEYS: bans (a sorted set: user, until when; +inf: for ever)
-- ARGV: how many; score and name of the last one before the page (absent: it is the first page)
-- returns {name, score …}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now()))
local from = 0
if ARGV[2] then
    -- A mark right behind that one, which may be gone: no name contains a zero byte.
    local mark = ARGV[3] .. '\0'
    redis.call('ZADD', KEYS[1], ARGV[2], mark)
    from = redis.call('ZRANK', KEYS[1], mark)
    redis.call('ZREM', KEYS[1], mark)
end
return redis.call('ZRANGE', KEYS[1], from, from + ARGV[1] - 1, 'WITHSCORES')
