-- KEYS: lease. ARGV: token, milliseconds. 0: somebody else leads; 1: begins to lead; 2: leads on.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return held and 2 or 1
