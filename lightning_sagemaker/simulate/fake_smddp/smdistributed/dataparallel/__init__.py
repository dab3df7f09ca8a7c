"""A fake of AWS's SMDDP library, for simulated jobs only, with the real one's documented limits but not its speed.

Its folder is put on the path of simulated workers; nothing else imports it. ``smdistributed`` itself is a namespace
package: `smdistributed.modelparallel` may come from another place, and a real ``smdistributed`` wins over this one.
"""

# The last release that AWS put into an image (PyTorch 2.5.1), and what nobody may take it for.
__version__ = "2.6.0+fake"
