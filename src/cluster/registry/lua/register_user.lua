-- Notes that a user is on a node. Returns the row as it was: node, incarnation, … An incarnation of the
-- same node that is newer than the caller's wins: then nothing is done and false returned.
-- KEYS: row of the user. ARGV: node, incarnation, channel and text of the event that the user is online.
local row = redis.call('HGETALL', KEYS[1])
for i = 1, #row, 2 do
    if row[i] == ARGV[1] and tonumber(row[i + 1]) > tonumber(ARGV[2]) then return false end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if #row == 0 then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return row
