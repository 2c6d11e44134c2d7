-- due.lua: takes parked sessions whose time is over, for as long as ending them may take: should the node that does it die, they are due again.
-- KEYS: parked
-- ARGV: how long that is, ms; how many
-- returns {score they have meanwhile, session…}; the half tells it from the scores that parking gives
local time = now()
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[2])
local score = string.format('%.0f.5', time + ARGV[1])
for _, sid in ipairs(page) do redis.call('ZADD', KEYS[1], score, sid) end
return {score, unpack(page)}
