-- said: owner, epoch, and of its buckets by name after `after` up to `upto` ('': to the end): got [[name, amount]],
-- count. Answers with where to go on, '' if that was all of them.
local lost = guard()
if lost then return lost end

local entity, owner = hear(said.owner, said.epoch)
if not owner or owner[STATE] ~= ALIVE then return finish('') end
local upto = said.upto ~= '' and said.upto or nil
local got, names, seen = {}, names_of(entity, said.after, said.count, upto), {}
local next_name = #names == said.count and names[#names] or ''
for _, name in ipairs(names) do seen[name] = true end
for _, g in ipairs(said.got) do
  got[g[1]] = g[2]
  if not seen[g[1]] then names[#names + 1] = g[1] end
end
load_buckets(names)
load_outs(entity, names)
for _, name in ipairs(names) do
  local b = buckets[name]
  if b then
    local o = out_of(entity, name)
    local more = (got[name] or 0) - o[O_GIVEN]
    if more ~= 0 then
      owner[IS_BACK], o[O_GIVEN], o.dirty = 1, o[O_GIVEN] + more, true
      if more > 0 then
        -- The store was rebuilt, maybe with its use already.
        local left = o[O_GIVEN] - o[O_USED] - o[O_RETURNED]
        for _, amount in pairs(o[O_WRITTEN]) do left = left - amount end
        let_go(b, o, -max(0, min(more, left - o[O_OUT])))
      else
        -- What was given and did not arrive was never out.
        local returned = o[O_RETURNED]
        give_back(name, b, o, -more)
        o[O_RETURNED] = returned
      end
    end
  end
end
book_moves('correction', entity, {})
if owner[IS_BACK] == 1 then forget_decisions(entity) end
save()
keep(entity, owner)
return finish(next_name, true)
