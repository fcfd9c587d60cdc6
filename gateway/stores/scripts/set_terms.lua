-- said: terms [[rule, kind, limit, burst, window, shadow, stamp]], count. Answers with the buckets that were edited,
-- and 1 if there are more.
local lost = guard()
if lost then return lost end

local changed, wrote, left = {}, false, said.count
for _, t in ipairs(said.terms) do
  wrote = set_rule(t[1], {t[2], t[3], t[4], t[5], t[6], t[7]}) or wrote
end
for _, t in ipairs(said.terms) do
  local rule = t[1]
  local after = left > 0 and redis.call('HGET', META, 'edit ' .. rule)
  if after then
    local from = after == '' and '[' .. rule .. '|' or '(' .. after
    local names = redis.call('ZRANGEBYLEX', NAMES, from, '[' .. rule .. '|\255', 'LIMIT', 0, left)
    load_buckets(names)
    for _, name in ipairs(names) do
      if buckets[name] and buckets[name].edited then changed[#changed + 1] = name end
    end
    if #names == left then
      redis.call('HSET', META, 'edit ' .. rule, names[#names])
    else
      redis.call('HDEL', META, 'edit ' .. rule)
    end
    left, wrote = left - #names, true
  end
end
save()
return finish({changed, left > 0 and 0 or 1}, wrote)
