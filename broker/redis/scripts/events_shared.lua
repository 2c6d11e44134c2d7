-- events_shared.lua: stands before the scripts of events.
-- Takes away up to so many of the oldest events, as long as there are more than are kept, or they are older; those that nobody has delivered are counted.
local function drop_events(key, state, keep, since, most)
    local left = redis.call('XLEN', key)
    if left == 0 then return end
    local cursor, lost = redis.call('HGET', state, 'cursor'), 0
    local c_time, c_seq = string.match(cursor or '', '^(%d+)%-(%d+)$')
    for _ = 1, most do
        local entry = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
        if not entry then break end
        local time, seq = string.match(entry[1], '^(%d+)%-(%d+)$')
        time, seq = tonumber(time), tonumber(seq)
        if left <= keep and time >= since then break end
        if c_time and (time > tonumber(c_time) or (time == tonumber(c_time) and seq > tonumber(c_seq))) then lost = lost + 1 end
        redis.call('XDEL', key, entry[1])
        left = left - 1
    end
    if lost > 0 then redis.call('HINCRBY', state, 'dropped', lost) end
end
