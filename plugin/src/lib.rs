//! packetdrill plug-in.
