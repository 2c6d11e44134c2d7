-- ban.lua: nobody lets this user in, until a time or for ever. Takes the place of an older ban.
-- KEYS: ban
-- ARGV: until, ms (0: for ever), then fields and values
local time = now()
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'since', time, unpack(ARGV, 2))
if ARGV[1] ~= '0' then
    redis.call('HSET', KEYS[1], 'until', ARGV[1])
    redis.call('PEXPIRE', KEYS[1], math.max(ARGV[1] - time, 1))
end
return 1
