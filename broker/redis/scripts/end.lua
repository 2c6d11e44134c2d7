-- end.lua: begins to end a session, from when on nobody can resume it; or says why that must not be.
-- KEYS: session
-- ARGV: the node whose session it must be (empty: any parked one whose time is over), that node's last heartbeat if it died (else 0),
-- 'early' if a parked one's time counts as over
-- returns {1, turn, user, since when it is being ended, whose tunnel it is or empty, field `room:…` …}: take it out of its rooms, then forget it; {0, turn}: there is none;
-- {2}: somebody has it, or {2, 0, node} when it was only asked for because its time seemed over; {3, turn, user, when}: it is parked until then; {4, turn, user, 0, '', field…}: its node died, but its window is not over:
-- suspend and park it
local s = redis.call('HMGET', KEYS[1], 'node', 'state', 'parked_until', 'user', 'resume_window')
local heartbeat = tonumber(ARGV[2])
if not s[1] then return {0, now()} end
if ARGV[1] ~= '' and s[1] ~= ARGV[1] then return {2} end
if s[2] ~= 'ending' and (ARGV[1] == '' or heartbeat > 0) then
    local till = tonumber(s[3]) or 0
    if s[2] == 'parked' then
        if ARGV[1] ~= '' or (till > now() and ARGV[3] ~= 'early') then return {3, turn_of(KEYS[1]), s[4] or '', till} end
    elseif ARGV[1] == '' then
        return {2, 0, s[1]}
    else
        local window = tonumber(s[5]) or 0
        if window > 0 and heartbeat + window > now() then
            return add_rooms({4, turn_of(KEYS[1]), s[4] or '', 0, ''}, KEYS[1])
        end
    end
end
redis.call('HSET', KEYS[1], 'state', 'ending')
redis.call('HSETNX', KEYS[1], 'ending_since', now())
return add_rooms({1, turn_of(KEYS[1]), s[4] or '', tonumber(redis.call('HGET', KEYS[1], 'ending_since')), redis.call('HGET', KEYS[1], 'tunnel') or ''}, KEYS[1])
