-- Returns Redis's time in milliseconds and the fields of a node's record, none if there is no record.
-- KEYS: record of the node.
local time = redis.call('TIME')
local record = redis.pcall('HGETALL', KEYS[1])
return { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), record.err and {} or record }
