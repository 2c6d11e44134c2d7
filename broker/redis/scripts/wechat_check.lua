-- wechat_check.lua: is this a login, with this secret? What is compared are hashes of secrets, so how long it takes tells nothing of them.
-- KEYS: whose
-- ARGV: name, hash, appid, whole ms, idle ms, keep ms
-- returns {1, openid, unionid, info}; {0}: no such login; {2}: its time is over
local of = redis.call('HMGET', KEYS[1], 'login:' .. ARGV[1], 'appid', 'openid', 'unionid', 'info')
local hash, since, seen = string.match(of[1] or '', '^(%S+) (%d+) (%d+)$')
if hash ~= ARGV[2] or of[2] ~= ARGV[3] or not of[3] or not of[5] then return {0} end
local time, whole, idle = now(), tonumber(ARGV[4]), tonumber(ARGV[5])
if time >= math.min(since + whole, seen + idle) then return {2} end
redis.call('HSET', KEYS[1], 'login:' .. ARGV[1], string.format('%s %s %.0f', hash, since, time))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(whole, idle) + ARGV[6]))
return {1, of[3], of[4] or '', of[5]}
