-- said: terms [[rule, kind, limit, burst, window, shadow, stamp]].
local lost = guard()
if lost then return lost end

local changed, wrote = {}, false
for _, t in ipairs(said.terms) do
  local rule, old = t[1], terms_of(t[1])
  if set_rule(rule, {t[2], t[3], t[4], t[5], t[6], t[7]}) then
    wrote = true
    local more = old and old[1] == t[2] and most_of(t[2], t[3], t[4]) - most_of(old[1], old[2], old[3]) or 0
    if more ~= 0 then
      local names = redis.call('ZRANGEBYLEX', NAMES, '[' .. rule .. '|', '[' .. rule .. '|\255')
      for _, name in ipairs(names) do changed[#changed + 1] = name end
      if more > 0 and #names > 0 then redis.call('PUBLISH', WET, table.concat(names, '\n')) end
    end
  end
end
return finish(changed, wrote)
