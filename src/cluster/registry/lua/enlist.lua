-- Notes which users an incarnation is about to register, so that they can be swept after its death.
-- Does nothing and returns 0 unless the incarnation is a member.
-- KEYS: record of the node, users of the incarnation. ARGV: incarnation, users.
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then return 0 end
if #ARGV > 1 then redis.call('SADD', KEYS[2], unpack(ARGV, 2)) end
return 1
