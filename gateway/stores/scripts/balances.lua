-- said: rule ('' for all), after (a name, '' for the first), count.
local lost = guard()
if lost then return lost end

local from = said.rule == '' and '-' or '[' .. said.rule .. '|'
if said.after ~= '' then from = '(' .. said.after end
local to = said.rule == '' and '+' or '[' .. said.rule .. '|\255'
local names = redis.call('ZRANGEBYLEX', NAMES, from, to, 'LIMIT', 0, said.count)
load_buckets(names)
local rows = {}
for i, name in ipairs(names) do
  local b = bucket(name)
  local spent = b[SPENT]
  for _, amount in pairs(b[PARTS]) do spent = spent + amount end
  rows[i] = {name, b[KIND], b[LIMIT], b[BURST], b[WINDOW], b[SHADOW], b[STAMP], spent, b[HELD],
    max(0, b[GIVEN_OUT] - b[HELD]), b[TOTAL] - b[GIVEN_OUT]}
end
return finish(rows)
