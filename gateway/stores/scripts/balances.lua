-- said: rule ('' for all), after (a name, '' for the first), count.
local lost = guard()
if lost then return lost end

local from = said.rule == '' and '-' or '[' .. said.rule .. '|'
if said.after ~= '' then from = '(' .. said.after end
local to = said.rule == '' and '+' or '[' .. said.rule .. '|\255'
local names = redis.call('ZRANGEBYLEX', NAMES, from, to, 'LIMIT', 0, said.count)
is_reading = true
load_buckets(names)
local found = {}
for i, name in ipairs(names) do found[i] = balance(name) end
return finish(found)
