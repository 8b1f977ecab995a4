// Memberships: how they are written, and how one leads to the next.
import Engine
import Testing

@Suite struct MembershipCodingTests {
    private func member(_ id: UInt64, isVoter: Bool = true) -> Member {
        Member(id: MemberID(id), peerAddress: "p\(id)", clientAddress: "c\(id)", isVoter: isVoter)
    }

    private func membership(_ voters: [UInt64], learners: [UInt64] = []) -> Membership {
        Membership(voters.map { member($0) } + learners.map { member($0, isVoter: false) })
    }

    private func decode(_ bytes: [UInt8]) -> Membership? {
        bytes.withUnsafeBytes { try? Membership(decoding: $0) }
    }

    @Test func goldenVectors() {
        let plain = membership([1], learners: [2])
        let bytes: [UInt8] =
            [1, 0, 2] + [1, 0, 0, 0, 0, 0, 0, 0, 2, 0x70, 0x31, 2, 0x63, 0x31, 1]
            + [2, 0, 0, 0, 0, 0, 0, 0, 2, 0x70, 0x32, 2, 0x63, 0x32, 0]
        #expect(plain.encoded() == bytes)
        #expect(decode(bytes) == plain)
        let joint = membership([1, 2]).step(toward: membership([1, 3], learners: []))
        let jointBytes: [UInt8] =
            [2, 0, 1, 3] + [1, 0, 0, 0, 0, 0, 0, 0, 2, 0x70, 0x31, 2, 0x63, 0x31, 3]
            + [2, 0, 0, 0, 0, 0, 0, 0, 2, 0x70, 0x32, 2, 0x63, 0x32, 6]
            + [3, 0, 0, 0, 0, 0, 0, 0, 2, 0x70, 0x33, 2, 0x63, 0x33, 1]
        #expect(joint.encoded() == jointBytes)
        #expect(decode(jointBytes) == joint)
    }

    @Test func whatIsNoMembership() {
        let joint = membership([1, 2]).step(toward: membership([1, 3])).encoded()
        for count in joint.indices { #expect(decode(Array(joint[..<count])) == nil) }
        /// The flags of the first, second and third member.
        let (first, second, third) = (18, 33, 48)
        for (place, flags) in [
            (first, 8), (second, 4), (second, 7), (third, 5), (0, 3), (2, 0), (2, 3),
        ] as [(Int, UInt8)] {
            var bytes = joint
            bytes[place] = flags
            #expect(decode(bytes) == nil, "byte \(place) is \(flags)")
        }
        var withoutOld = joint
        for place in [first, second, third] { withoutOld[place] = 1 }
        #expect(decode(withoutOld) == nil)
        var plain = membership([1, 2]).encoded()
        plain[plain.count - 1] = 3
        #expect(decode(plain) == nil)
    }

    @Test func oneVoterMoreOrLessNeedsNoJointMembership() {
        let three = membership([1, 2, 3])
        for target in [
            membership([1, 2, 3, 4]), membership([1, 2]), membership([1, 2], learners: [3]),
            membership([1, 2, 3], learners: [4, 5]), three,
        ] {
            #expect(three.step(toward: target) == target)
            #expect(target.leave == nil)
        }
    }

    @Test func moreThanOneVoterGoesThroughAJointMembership() {
        let target = membership([1, 4], learners: [3])
        let joint = membership([1, 2, 3]).step(toward: target, leave: .explicit)
        #expect(joint.leave == .explicit)
        #expect(joint.members.filter(\.isVoter).map(\.id.rawValue) == [1, 4])
        #expect(joint.members.filter(\.wasVoter).map(\.id.rawValue) == [1, 2, 3])
        #expect(joint.voters.map(\.rawValue) == [1, 2, 3, 4])
        #expect(joint.learners.isEmpty)
        #expect(joint.left() == target)
        #expect(target.left() == target)
    }
}
