-- limit.lua: a node tells what was taken and wanted there of a limit that the nodes share, and hears of all together.
-- KEYS: limit
-- ARGV: rate (tokens per second), burst, taken and wanted since this node said so last
-- returns {taken and not refilled yet, wanted lately: half as much counts after each second}, in thousandths of tokens
local s = redis.call('HMGET', KEYS[1], 'used', 'wanted', 'at')
local time, rate = now(), tonumber(ARGV[1])
local gone = math.max(time - (tonumber(s[3]) or time), 0)
local used = (tonumber(s[1]) or 0) - gone * rate
used = math.max(math.max(used, -1000 * rate) + ARGV[3] * 1000, 0) -- what was taken lately was being refilled meanwhile
used = math.min(used, ARGV[2] * 1000 + rate * 10000) -- nobody pays for more than ten seconds
local wanted = (tonumber(s[2]) or 0) / 2 ^ math.floor(gone / 1000) * (1 - gone % 1000 / 2000) + ARGV[4] * 1000
redis.call('HSET', KEYS[1], 'used', string.format('%.0f', used), 'wanted', string.format('%.0f', wanted), 'at', time)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', used / rate + 10000))
return {used, wanted}
